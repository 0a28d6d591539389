//! The committed man pages and completions are what the command line is today.

#![allow(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::path::{Path, PathBuf};

use clap_complete::Shell;

#[test]
fn man_pages_and_completions_are_current() {
    let made = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(psi_driver::command_line(), made.path()).unwrap();
    compare(made.path(), "man");

    let made = tempfile::tempdir().unwrap();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(
            shell,
            &mut psi_driver::command_line(),
            "psi-driver",
            made.path(),
        )
        .unwrap();
    }
    compare(made.path(), "completions");
}

#[expect(clippy::disallowed_methods, reason = "the switch of `make generate`")]
fn compare(made: &Path, folder: &str) {
    let committed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(folder);
    for file in std::fs::read_dir(made).unwrap() {
        let file = file.unwrap();
        let target = committed.join(file.file_name());
        let text = std::fs::read(file.path()).unwrap();
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&target, &text).unwrap();
        }
        let current = std::fs::read(&target).is_ok_and(|committed| committed == text);
        assert!(current, "{} is not current: run `make generate` and commit it", target.display());
    }
}
