//! The committed man page is what the command line is today, and the shipped config is understood.

#![allow(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::path::{Path, PathBuf};

use psi_daemon::testing::config::Config;

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch of `make generate`")]
fn the_man_page_is_current() {
    let mut page = Vec::new();
    clap_mangen::Man::new(psi_daemon::cli::command_line()).section("8").render(&mut page).unwrap();
    let target = contrib().join("man/psid.8");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&target, &page).unwrap();
    }
    let current = std::fs::read(&target).is_ok_and(|committed| committed == page);
    assert!(current, "psid.8 is not current: run `make generate` and commit it");
}

/// The manual in the config's comments must be true: as shipped, and with every line turned on.
#[test]
fn the_shipped_config_is_understood() {
    let path = contrib().join("config/psi.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    Config::parse(&text, &path).unwrap();

    let turned_on: String =
        text.lines().map(|line| format!("{}\n", line.strip_prefix("#:").unwrap_or(line))).collect();
    assert_ne!(turned_on, text);
    let config = Config::parse(&turned_on, &path).unwrap();
    assert!(config.infisical.is_some() && config.hsm.is_some() && !config.workloads.is_empty());
}
