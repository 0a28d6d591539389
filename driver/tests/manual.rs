//! The committed man pages and completions are what the command lines are today.

#![allow(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use clap_mangen::Man;

#[test]
fn man_pages_and_completions_are_current() {
    let made = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(psi_driver::ctl_command_line(), made.path()).unwrap();
    fs::write(made.path().join("psi-driver.1"), driver_page()).unwrap();
    compare(made.path(), "man");

    let made = tempfile::tempdir().unwrap();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        for (name, mut line) in [
            ("psi-driver", psi_driver::driver_command_line()),
            ("psictl", psi_driver::ctl_command_line()),
        ] {
            clap_complete::generate_to(shell, &mut line, name, made.path()).unwrap();
        }
    }
    compare(made.path(), "completions");
}

/// psi-driver has one page: its verbs are a list there.
fn driver_page() -> Vec<u8> {
    let line = psi_driver::driver_command_line();
    let mut verbs = ".SH VERBS\n".to_owned();
    for verb in line.get_subcommands() {
        let options: String = verb
            .get_arguments()
            .map(|arg| match arg.get_long() {
                Some(long) => format!(" [\\-\\-{long}]"),
                None if arg.is_required_set() => {
                    format!(" \\fI{}\\fR", arg.get_id().as_str().to_uppercase())
                }
                None => format!(" [\\fI{}\\fR]", arg.get_id().as_str().to_uppercase()),
            })
            .collect();
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(verbs, ".TP\n\\fB{}\\fR{options}\n{about}", verb.get_name()).unwrap();
    }
    let man = Man::new(line);
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    page.extend_from_slice(verbs.as_bytes());
    man.render_options_section(&mut page).unwrap();
    man.render_extra_section(&mut page).unwrap();
    page
}

#[expect(clippy::disallowed_methods, reason = "the switch of `make generate`")]
fn compare(made: &Path, directory: &str) {
    let committed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(directory);
    for file in fs::read_dir(made).unwrap() {
        let file = file.unwrap();
        let target = committed.join(file.file_name());
        let text = fs::read(file.path()).unwrap();
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&target, &text).unwrap();
        }
        let current = fs::read(&target).is_ok_and(|committed| committed == text);
        assert!(current, "{} is not current: run `make generate` and commit it", target.display());
    }
}
