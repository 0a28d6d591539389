//! The committed man pages of psid are current, and the shipped config is valid.

#![allow(clippy::unwrap_used, reason = "a test ends where a step fails")]

#[path = "manual/config_page.rs"]
mod config_page;
#[path = "../../driver/tests/manual/page.rs"]
mod page;

use std::path::{Path, PathBuf};

use page::{Sections, roff};
use psi_daemon::testing::config::Config;

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib")
}

/// Compares a generated page with the committed one, or writes it for `make generate`.
#[expect(clippy::disallowed_methods, reason = "the switch of `make generate`")]
fn compare(name: &str, page: &[u8]) {
    let target = contrib().join("man").join(name);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&target, page).unwrap();
    }
    let is_current = std::fs::read(&target).is_ok_and(|committed| committed == page);
    assert!(is_current, "{name} is not current: run `make generate` and commit it");
}

#[test]
fn man_page_is_current() {
    let mut line = psi_daemon::cli::command_line().disable_help_subcommand(true);
    line.build();
    let mut commands = String::from(".SH COMMANDS\n");
    for command in line.get_subcommands().filter(|command| !command.is_hide_set()) {
        commands += &command_section(command);
    }
    // The commands are on this page, and have none of their own.
    let page = Sections::read().page(&line, "8", &commands);
    compare("psid.8", page.as_bytes());
}

/// A command's help, and its options that are not psid's own.
fn command_section(command: &clap::Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!(".SS psid {}\n{}\n", roff(command.get_name()), roff(&about));
    for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
        let name = argument.get_id().as_str();
        if name == "help" {
            continue;
        }
        let value = argument.get_value_names().and_then(<[_]>::first).map_or(name, |name| name);
        let value = argument.get_action().takes_values().then(|| roff(&value.to_uppercase()));
        let long =
            argument.get_long().map(|long| format!("\\fB{}\\fR ", roff(&format!("--{long}"))));
        let value = value.map(|value| format!("\\fI{value}\\fR")).unwrap_or_default();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let head = format!("{}{value}", long.unwrap_or_default());
        text += &format!(".TP\n{}\n{}\n", head.trim_end(), roff(&help));
    }
    text
}

/// psid has one page; the others are psi-driver's and psictl's.
#[test]
fn psid_has_the_sections_of_one_page() {
    assert_eq!(Sections::read().pages().filter(|page| page.starts_with("psid")).count(), 1);
}

#[test]
fn config_man_page_is_current() {
    let text = std::fs::read_to_string(contrib().join("config/psi.toml")).unwrap();
    compare("psi.toml.5", config_page::page(&text).as_bytes());
}

/// The comments of the config must be true: as shipped, with every example, and with each alternative.
#[test]
fn shipped_config_is_valid_with_every_example_and_alternative() {
    let path = contrib().join("config/psi.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    Config::parse(&text, &path).unwrap();

    let with_examples: Vec<&str> =
        text.lines().map(|line| line.strip_prefix("#:").unwrap_or(line)).collect();
    assert_ne!(with_examples.join("\n"), text);
    let config = Config::parse(&with_examples.join("\n"), &path).unwrap();
    assert!(config.infisical.is_some() && config.pkcs11.is_some() && !config.workloads.is_empty());

    let mut example = 0;
    for (line, of_file) in text.lines().enumerate() {
        if of_file.starts_with("#:") {
            example = line;
        } else if let Some(alternative) = of_file.strip_prefix("#|") {
            let mut lines = with_examples.clone();
            lines[example] = alternative;
            Config::parse(&lines.join("\n"), &path)
                .unwrap_or_else(|error| panic!("{alternative}: {error}"));
        }
    }
}
