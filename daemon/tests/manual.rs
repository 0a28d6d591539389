//! The committed man pages of psid are current, and the shipped config is valid.

#![allow(clippy::unwrap_used, reason = "a test ends where a step fails")]

#[path = "manual/config_page.rs"]
mod config_page;

use std::path::{Path, PathBuf};

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
fn the_man_page_is_current() {
    let mut page = Vec::new();
    clap_mangen::Man::new(psi_daemon::cli::command_line()).section("8").render(&mut page).unwrap();
    compare("psid.8", &page);
}

#[test]
fn the_man_page_of_the_config_is_current() {
    let text = std::fs::read_to_string(contrib().join("config/psi.toml")).unwrap();
    compare("psi.toml.5", config_page::page(&text).as_bytes());
}

/// The comments of the config must be true: as shipped, with every example, and with each alternative.
#[test]
fn the_shipped_config_is_valid_with_every_example_and_alternative() {
    let path = contrib().join("config/psi.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    Config::parse(&text, &path).unwrap();

    let with_examples: Vec<&str> =
        text.lines().map(|line| line.strip_prefix("#:").unwrap_or(line)).collect();
    assert_ne!(with_examples.join("\n"), text);
    let config = Config::parse(&with_examples.join("\n"), &path).unwrap();
    assert!(config.infisical.is_some() && config.hsm.is_some() && !config.workloads.is_empty());

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
