//! A TPM that is locked out or absent: psid reports which, waits, and never advises a new key.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::{in_use, init, psid_on};
use psi_harness::{Config, FakeInfisical, Instance, PIN, Token, Tpm, eventually, id};

/// An instance with a literal that is encrypted under a key of this TPM.
fn filled(tpm: &Tpm) -> Instance {
    in_use(&FakeInfisical::with(&json!({})), tpm)
}

/// systemd 252 says "TPM2 device is in dictionary attack lockout mode".
#[test]
fn tpm_lockout_is_reported_with_counters_and_ends_without_a_new_key() {
    let mut tpm = Tpm::start();
    let instance = filled(&tpm);
    let key = fs::read(instance.sealed_key()).unwrap();
    tpm.lock_out();
    let mut psid = psid_on(&instance, &tpm).start();
    let degraded = psid.degraded();
    assert!(
        degraded.contains("the TPM is locked: 1 failed authorizations of at most 1"),
        "{degraded}"
    );
    assert!(
        degraded.contains("unlocks by itself, one authorization each 16 minutes"),
        "{degraded}"
    );
    assert!(!degraded.contains("--force") && !degraded.contains("cache init"), "{degraded}");
    // A command that needs the key has the same message.
    let outcome = init(&instance, &tpm, &[]).run();
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("the TPM is locked"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("--force"), "{}", outcome.stderr);
    tpm.unlock();
    tpm.flush();
    psid.reload();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
    assert_eq!(fs::read(instance.sealed_key()).unwrap(), key);
}

#[test]
fn missing_tpm_is_reported_without_advising_a_new_key() {
    let mut tpm = Tpm::start();
    let instance = filled(&tpm);
    let start = psid_on(&instance, &tpm);
    tpm.power_off();
    let mut psid = start.start();
    let degraded = psid.degraded();
    assert!(degraded.contains("there is no TPM: "), "{degraded}");
    assert!(degraded.contains("`psictl cache recover`"), "{degraded}");
    assert!(!degraded.contains("--force") && !degraded.contains("cache init"), "{degraded}");
    tpm.power_on();
    psid.reload();
    assert_eq!(psid.degraded(), "");
}

/// Another TPM, a changed PCR and a damaged file: only these advise a new key, after the recovery
/// key.
#[test]
fn failed_unseal_advises_the_recovery_key_first() {
    let mut tpm = Tpm::start();
    let instance = filled(&tpm);
    let check = |tpm: &Tpm| {
        let psid = psid_on(&instance, tpm).start();
        let degraded = psid.degraded();
        psid.terminate();
        let places =
            ["cache recover", "cache init --backend tpm --force"].map(|words| degraded.find(words));
        assert!(places[0].is_some() && places[0] < places[1], "{degraded}");
    };
    check(&Tpm::start());
    let sealed = fs::read_to_string(instance.sealed_key()).unwrap();
    let at = sealed.len() - 20;
    let other = if sealed.as_bytes()[at] == b'A' { "B" } else { "A" };
    let damaged = format!("{}{other}{}", &sealed[..at], &sealed[at + 1..]);
    fs::write(instance.sealed_key(), damaged).unwrap();
    check(&tpm);
    fs::write(instance.sealed_key(), &sealed).unwrap();
    tpm.power_cycle();
    tpm.extend(7);
    check(&tpm);
}

/// An unreadable file is no evidence about the key in it.
#[test]
fn unreadable_key_file_is_not_reported_missing() {
    let tpm = Tpm::start();
    let instance = filled(&tpm);
    let sealed = fs::read(instance.sealed_key()).unwrap();
    fs::remove_file(instance.sealed_key()).unwrap();
    // EISDIR: root ignores the mode.
    fs::create_dir(instance.sealed_key()).unwrap();
    let mut psid = psid_on(&instance, &tpm).start();
    let degraded = psid.degraded();
    assert!(degraded.contains("cannot be read") && !degraded.contains("cache init"), "{degraded}");
    fs::remove_dir(instance.sealed_key()).unwrap();
    fs::write(instance.sealed_key(), sealed).unwrap();
    psid.reload();
    assert_eq!(psid.degraded(), "");
}

/// A systemd-creds that hangs, as with an unresponsive TPM, is no reason for a new key either.
#[test]
fn killed_systemd_creds_does_not_condemn_the_key() {
    let tpm = Tpm::start();
    let instance = filled(&tpm);
    let bin = instance.directory().join("bin");
    fs::create_dir(&bin).unwrap();
    let creds = bin.join("systemd-creds");
    fs::write(&creds, "#!/bin/sh\ncat > /dev/null\nkill -9 $$\n").unwrap();
    assert!(Command::new("chmod").arg("0755").arg(&creds).status().unwrap().success());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let psid = psid_on(&instance, &tpm).env("PATH", path).start();
    let degraded =
        eventually("the failure", || Some(psid.degraded()).filter(|reasons| !reasons.is_empty()));
    assert!(degraded.contains("tries again by itself"), "{degraded}");
    assert!(!degraded.contains("--force") && !degraded.contains("cache init"), "{degraded}");
}

/// A PIN or a client secret that the TPM cannot open for a while need not be sealed again.
#[test]
fn pin_sealed_to_a_locked_tpm_is_not_requested_again() {
    let mut tpm = Tpm::start();
    let token = Token::kryoptic();
    let instance = filled(&tpm);
    let infisical = FakeInfisical::with(&json!({}));
    let file = format!("pin_file = \"{}\"", token.pin_file().display());
    let config = Config::of(&infisical).hsm(&token);
    let rest = config.rest.replace(&file, "pin_credential = \"pin\"");
    instance.configure(&Config { rest, ..config });
    let sealed = instance.config().with_file_name("pin.cred");
    tpm.flush();
    let mut creds = Command::new("systemd-creds");
    creds.args(["encrypt", "--with-key=tpm2", "--tpm2-pcrs=7", "--name=pin"]);
    creds.arg(token.pin_file()).arg(&sealed).env("SYSTEMD_TPM2_DEVICE", tpm.device());
    assert_eq!(fs::read_to_string(token.pin_file()).unwrap(), PIN);
    assert!(creds.status().unwrap().success());
    let outcome = tpm_preflight(&instance, &token, &tpm);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    tpm.lock_out();
    let outcome = tpm_preflight(&instance, &token, &tpm);
    assert_eq!(outcome.code, 69, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the TPM is locked"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("psictl seal"), "{}", outcome.stderr);
    tpm.unlock();
    assert_eq!(tpm_preflight(&instance, &token, &tpm).code, 0);
}

fn tpm_preflight(instance: &Instance, token: &Token, tpm: &Tpm) -> psi_harness::Outcome {
    tpm.flush();
    let driver = instance.driver(&["hsm", "preflight"]).env("SYSTEMD_TPM2_DEVICE", tpm.device());
    let driver = driver.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let environment = token.environment();
    environment.iter().fold(driver, |driver, (name, value)| driver.env(name, value)).run()
}
