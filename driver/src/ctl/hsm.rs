//! `psictl hsm`: the commands of the PKCS#11 token.

use std::fmt::Write;

use psi_common::{Exit, Paths};
use psi_proto::v1::{HsmKey, HsmStatusResponse, HsmToken};
use serde::Serialize;

use super::{json, psid};
use crate::client::{Client, Deadline};
use crate::ctl::args::HsmCommand;
use crate::error::CliError;
use crate::stdio;

pub(crate) fn run(paths: &Paths, command: &HsmCommand) -> Result<(), CliError> {
    match command {
        HsmCommand::Preflight { json, retry } => preflight(paths, *json, *retry),
        HsmCommand::Status { json } => status(paths, *json),
        HsmCommand::Store { name } => store(paths, name),
    }
}

/// Only psid speaks PKCS#11.
fn preflight(paths: &Paths, json: bool, retry: bool) -> Result<(), CliError> {
    let mut args = vec!["preflight"];
    let flags = [(json, "--json"), (retry, "--retry")];
    args.extend(flags.into_iter().filter_map(|(asked, flag)| asked.then_some(flag)));
    psid::run_as_daemon(paths, &args)
}

fn store(paths: &Paths, name: &str) -> Result<(), CliError> {
    if !is_name(name) {
        return Err(CliError::new(
            Exit::BadInput,
            "not every podman accepts a secret of that name",
            "use 1 to 253 letters, digits and _.-, beginning with a letter or digit and not ending with - or .",
        ));
    }
    let secret = stdio::read_value()?;
    let reference = Client::new(paths, Deadline::Admin).seal(&secret)?;
    // The reference is printed in single quotes for a shell.
    if reference.contains('\'') {
        return Err(CliError::new(
            Exit::Protocol,
            "psid returned a reference with a quote in it",
            "check that psid and psictl are of one version",
        ));
    }
    stdio::write_text(&format!("printf %s '{reference}' | podman secret create {name} -\n"))
}

/// Whether every podman accepts the name and no shell has to quote it.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= 253
        && name.bytes().all(plain)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !name.ends_with(['-', '.'])
}

fn status(paths: &Paths, json: bool) -> Result<(), CliError> {
    let status = Client::new(paths, Deadline::Admin).hsm_status()?;
    stdio::write_text(&if json { as_json(&status) } else { as_text(&status) })
}

fn as_text(status: &HsmStatusResponse) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{label:<10} {value}");
    };
    line("state", &status.state);
    let suffix = status.token.as_ref().map_or("", |token| pin_status(&token.pin_status));
    line("PIN", &format!("{}{suffix}", status.pin));
    if let Some(token) = &status.token {
        let HsmToken { label, manufacturer, model, serial, firmware, slot, .. } = token;
        line(
            "token",
            &format!(
                "{label} in slot {slot}: {manufacturer} {model}, serial {serial}, firmware {firmware}"
            ),
        );
    }
    if let Some(key) = &status.key {
        let HsmKey { label, id, bits, .. } = key;
        line("key", &format!("{label}, id {id}: RSA of {bits} bits, {}", allowed(key)));
    }
    if !status.last_error.is_empty() {
        line("ERROR", &status.last_error);
    }
    text
}

fn pin_status(name: &str) -> &'static str {
    match name {
        "count-low" => ", after a wrong one",
        "final-try" => ", the last try is left",
        "locked" => ", locked",
        "not-set" => ", none is set",
        _ => "",
    }
}

fn allowed(key: &HsmKey) -> &'static str {
    match (key.may_decrypt, key.may_sign) {
        (true, true) => "may decrypt and sign",
        (true, false) => "may decrypt, NOT sign",
        (false, true) => "may sign, NOT decrypt",
        (false, false) => "may NEITHER decrypt nor sign",
    }
}

#[derive(Serialize)]
struct Report<'a> {
    state: &'a str,
    last_error: Option<&'a str>,
    away_since_ms: Option<u64>,
    pin: &'a str,
    token: Option<Token<'a>>,
    key: Option<Key<'a>>,
}

#[derive(Serialize)]
struct Token<'a> {
    label: &'a str,
    manufacturer: &'a str,
    model: &'a str,
    serial: &'a str,
    firmware: &'a str,
    slot: u64,
    pin_status: &'a str,
}

#[derive(Serialize)]
struct Key<'a> {
    label: &'a str,
    id: &'a str,
    bits: u32,
    may_decrypt: bool,
    may_sign: bool,
}

fn as_json(status: &HsmStatusResponse) -> String {
    json::text(&Report {
        state: &status.state,
        last_error: (!status.last_error.is_empty()).then_some(&status.last_error),
        away_since_ms: status.away_since_ms,
        pin: &status.pin,
        token: status.token.as_ref().map(|token| Token {
            label: &token.label,
            manufacturer: &token.manufacturer,
            model: &token.model,
            serial: &token.serial,
            firmware: &token.firmware,
            slot: token.slot,
            pin_status: &token.pin_status,
        }),
        key: status.key.as_ref().map(|key| Key {
            label: &key.label,
            id: &key.id,
            bits: key.bits,
            may_decrypt: key.may_decrypt,
            may_sign: key.may_sign,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_name_accepts_what_every_podman_accepts() {
        for name in ["a", "db_pw_", "worker--KEY.2", &"x".repeat(253)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "a-", ".a", "_a", "a b", "a,b", "a=b", "a/b", "a'b", "ä", "a\n"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(!is_name(&"x".repeat(254)));
    }
}
