//! The committed man pages and completions are what the command lines are today.

#![allow(clippy::unwrap_used, reason = "a test ends where a step fails")]

#[path = "manual/names.rs"]
mod names;
#[path = "manual/page.rs"]
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use clap::{Arg, Command};
use clap_complete::Shell;

use page::{Sections, roff};

#[test]
fn man_pages_are_current_and_no_other_page_is_there() {
    let sections = Sections::read();
    let mut pages = BTreeMap::new();
    let driver = built(psi_driver::driver_command_line());
    pages.insert("psi-driver.1".to_owned(), sections.page(&driver, "1", &verbs(&driver)));
    add_pages(&mut pages, &sections, &built(psi_driver::ctl_command_line()));

    let named = sections.pages().filter(|page| *page != "psid").map(|page| format!("{page}.1"));
    let named: BTreeSet<String> = named.collect();
    assert_eq!(named, pages.keys().cloned().collect());
    compare("man", ".1", &pages);
}

#[test]
fn completions_are_current() {
    let mut files = BTreeMap::new();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        for (name, mut line) in [
            ("psi-driver", psi_driver::driver_command_line()),
            ("psictl", psi_driver::ctl_command_line()),
        ] {
            let made = tempfile::tempdir().unwrap();
            let path = clap_complete::generate_to(shell, &mut line, name, made.path()).unwrap();
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = names::with_names(shell, name, fs::read_to_string(path).unwrap());
            files.insert(file, text);
        }
    }
    compare("completions", "", &files);
}

/// The command line with the names of all its commands; `help` has no page.
fn built(line: Command) -> Command {
    let mut line = without_help(line);
    line.build();
    line
}

fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// The pages of a command and of those below it.
fn add_pages(pages: &mut BTreeMap<String, String>, sections: &Sections, command: &Command) {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut commands = String::new();
    for below in command.get_subcommands() {
        add_pages(pages, sections, below);
        let (name, about) = (below.get_display_name().unwrap(), below.get_about().unwrap());
        commands += &format!(".TP\n.BR {} (1)\n{}\n", roff(name), roff(&about.to_string()));
    }
    if !commands.is_empty() {
        commands.insert_str(0, ".SH COMMANDS\n");
    }
    pages.insert(format!("{name}.1"), sections.page(command, "1", &commands));
}

/// psi-driver has one page: its verbs are a list there.
fn verbs(line: &Command) -> String {
    let mut verbs = ".SH VERBS\n".to_owned();
    for verb in line.get_subcommands() {
        let options: String = verb.get_arguments().filter_map(option).collect();
        let about = verb.get_about().unwrap().to_string();
        verbs += &format!(".TP\n\\fB{}\\fR{options}\n{}\n", verb.get_name(), roff(&about));
    }
    verbs
}

fn option(argument: &Arg) -> Option<String> {
    let name = argument.get_id().as_str();
    match argument.get_long() {
        Some("help") => None,
        Some(long) => Some(format!(" [{}]", roff(&format!("--{long}")))),
        None if argument.is_required_set() => Some(format!(" \\fI{}\\fR", name.to_uppercase())),
        None => Some(format!(" [\\fI{}\\fR]", name.to_uppercase())),
    }
}

/// Compares the files of a directory of `contrib`, or writes them and removes all others that end so.
#[expect(clippy::disallowed_methods, reason = "the switch of `make generate`")]
fn compare(directory: &str, end: &str, files: &BTreeMap<String, String>) {
    let committed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(directory);
    let is_generation = std::env::var_os("UPDATE_GENERATED").is_some();
    for (name, text) in files {
        let target = committed.join(name);
        if is_generation {
            fs::write(&target, text).unwrap();
        }
        let is_current = fs::read_to_string(&target).is_ok_and(|committed| committed == *text);
        assert!(is_current, "{name} is not current: run `make generate` and commit it");
    }
    for file in fs::read_dir(&committed).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_file() && name.ends_with(end) && !files.contains_key(name) {
            assert!(is_generation, "{name} is the page of no command: run `make generate`");
            fs::remove_file(&path).unwrap();
        }
    }
}
