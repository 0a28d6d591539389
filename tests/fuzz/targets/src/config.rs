//! The config file.

use std::path::Path;

use psi_daemon::testing::config::{Config, ConfigError};

use crate::{Body, choice};

/// A valid config, up to the client secret.
const BEFORE_THE_SECRET: &str =
    "[providers.infisical.auth]\nmethod = \"universal-auth\"\nclient_id = \"id\"\n";

/// 0: the value of `client_secret`. Anything else: a whole file.
pub(crate) fn open() -> Body {
    Box::new(|input| match choice(input) {
        (0, value) => confidential(&String::from_utf8_lossy(value)),
        _ => file(&String::from_utf8_lossy(input)),
    })
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("config.toml"))
}

/// A valid config stays valid; an error is one line that names a line of the file.
fn file(text: &str) {
    let config = match parse(text) {
        Ok(config) => config,
        Err(error) => return assert_named(&error, text),
    };
    let commented = parse(&format!("{text}\n# a comment\n")).unwrap();
    // The fingerprint is that of the text.
    let content = |config: &Config| {
        format!("{config:?}").rsplit_once(", fingerprint: ").unwrap().0.to_owned()
    };
    assert_eq!(content(&commented), content(&config));
    // An unknown key at the end of the file is refused with its own line.
    let lines = text.matches('\n').count() + 1;
    let error = parse(&format!("{text}\n[no_such_table]\n")).unwrap_err();
    assert_eq!(error.line, Some(lines + 1), "{error}");
    assert!(error.what.contains("no_such_table"), "{error}");
}

fn assert_named(error: &ConfigError, text: &str) {
    let words = error.to_string();
    assert!(words.starts_with("config.toml:") && !words.contains('\n'), "{words:?}");
    let line = error.line.unwrap();
    assert!((1..=text.matches('\n').count() + 1).contains(&line), "{words}");
}

/// Whatever the client secret is, no error, warning or log of the config quotes it.
fn confidential(value: &str) {
    let value = value.replace(['\n', '\r'], " ");
    let text = format!("{BEFORE_THE_SECRET}client_secret = {value}\n");
    let report = match parse(&text) {
        Ok(config) => format!("{config:?}"),
        Err(error) => {
            assert_named(&error, &text);
            error.to_string()
        }
    };
    // psid's own texts have one word with a digit and three letters: pkcs11, the name of a table.
    let is_secret = |word: &&str| {
        let letters = word.chars().filter(char::is_ascii_alphabetic).count();
        letters >= 3 && word.contains(|c: char| c.is_ascii_digit()) && *word != "pkcs11"
    };
    let words = value.split(|c: char| !c.is_ascii_alphanumeric());
    for word in words.filter(is_secret) {
        assert!(!report.contains(word), "{report}");
    }
}
