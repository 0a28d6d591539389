//! Unsealing of the key at the start, and what psid serves if it fails.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{init, instance_on, psid_on};
use psi_harness::{CLIENT_SECRET, FakeInfisical, Instance, Tpm, id, reference};

/// An instance whose cache and literal are encrypted under a key of this TPM.
fn filled(infisical: &FakeInfisical, tpm: &Tpm, more: &[&str]) -> Instance {
    let instance = instance_on(infisical);
    init(&instance, tpm, more).ok();
    let psid = psid_on(&instance, tpm).start();
    assert_eq!(psid.degraded(), "");
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    psid.terminate();
    instance
}

fn one() -> FakeInfisical {
    FakeInfisical::with(&json!({"/myapp": {"A": "1"}}))
}

#[test]
fn reboot_in_an_outage_serves_everything() {
    let mut tpm = Tpm::start();
    let mut infisical = one();
    let instance = filled(&infisical, &tpm, &[]);
    infisical.kill();
    tpm.power_cycle();
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    assert_eq!(psid.status()["survives_outage"], true);
}

/// systemd#42028: a Secure Boot update changes PCR 7, and the credential no longer opens. With
/// LoadCredentialEncrypted the unit would not even start.
#[test]
fn changed_pcr_7_means_live_serving_with_the_reason_and_unchanged_files() {
    let mut tpm = Tpm::start();
    let infisical = one();
    let instance = filled(&infisical, &tpm, &[]);
    let cache = fs::read(instance.cache()).unwrap();
    let key = fs::read(instance.sealed_key()).unwrap();
    tpm.power_cycle();
    tpm.extend(7);
    let psid = psid_on(&instance, &tpm).start();
    let degraded = psid.degraded();
    let sealed = instance.sealed_key().display().to_string();
    assert!(degraded.contains(&sealed) && degraded.contains("does not open: "), "{degraded}");
    assert!(degraded.contains("`psictl cache recover`"), "{degraded}");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "live");
    let line = instance.driver(&["lookup"]).id(id(2)).fails(65);
    assert!(line.contains("no key to open it"), "{line}");
    psid.terminate();
    assert_eq!(fs::read(instance.cache()).unwrap(), cache);
    assert_eq!(fs::read(instance.sealed_key()).unwrap(), key);
    assert!(instance.set_aside().is_empty());
    // With the old firmware again, everything works as before.
    tpm.power_cycle();
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

/// systemd 252 can seal without PCRs and cannot open the result; newer versions can. Where it
/// opens, the key must survive every change; where it does not, `init` must detect it and leave no
/// file.
#[test]
fn key_without_pcrs_survives_their_change_or_fails_its_proof() {
    let mut tpm = Tpm::start();
    let mut infisical = one();
    if !systemd_opens_without_pcrs(&tpm) {
        let instance = instance_on(&infisical);
        let outcome = init(&instance, &tpm, &["--tpm2-pcrs", ""]).run();
        assert_ne!(outcome.code, 0);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("TPM2 PCR bank"), "the cause: {}", outcome.stderr);
        assert!(!instance.sealed_key().exists() && !instance.cache().exists());
        return;
    }
    let instance = filled(&infisical, &tpm, &["--tpm2-pcrs", ""]);
    infisical.kill();
    tpm.power_cycle();
    for pcr in [0, 7, 11] {
        tpm.extend(pcr);
    }
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
}

fn systemd_opens_without_pcrs(tpm: &Tpm) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let sealed = directory.path().join("sealed");
    seal(tpm, "probe", "", "probe", &sealed);
    tpm.flush();
    let mut decrypt = Command::new("systemd-creds");
    decrypt.args(["decrypt", "--name=probe"]).arg(&sealed).arg("-");
    let output = decrypt.env("SYSTEMD_TPM2_DEVICE", tpm.device()).output().unwrap();
    output.stdout == b"probe"
}

/// Seals a credential by systemd-creds, as an admin does.
fn seal(tpm: &Tpm, name: &str, pcrs: &str, value: &str, sealed: &Path) {
    tpm.flush();
    let mut creds = Command::new("systemd-creds");
    creds.args(["encrypt", "--with-key=tpm2", &format!("--name={name}")]);
    creds.arg(format!("--tpm2-pcrs={pcrs}")).arg("-").arg(sealed);
    creds.env("SYSTEMD_TPM2_DEVICE", tpm.device()).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut creds = creds.spawn().unwrap();
    creds.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    assert!(creds.wait().unwrap().success());
}

#[test]
fn key_of_other_pcrs_is_bound_to_them() {
    let mut tpm = Tpm::start();
    let infisical = one();
    let instance = filled(&infisical, &tpm, &["--tpm2-pcrs", "11"]);
    tpm.power_cycle();
    tpm.extend(7);
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
    psid.terminate();
    tpm.extend(11);
    let psid = psid_on(&instance, &tpm).start();
    assert!(psid.degraded().contains("does not open"), "{}", psid.degraded());
}

/// The disk in another machine: its TPM has another seed.
#[test]
fn tpm_of_another_machine_opens_nothing() {
    let (tpm, other) = (Tpm::start(), Tpm::start());
    let infisical = one();
    let instance = filled(&infisical, &tpm, &[]);
    let psid = psid_on(&instance, &other).start();
    assert!(psid.degraded().contains("does not open"), "{}", psid.degraded());
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "live");
}

#[test]
fn missing_tpm_is_reported_and_found_by_reload() {
    let mut tpm = Tpm::start();
    let infisical = one();
    let instance = filled(&infisical, &tpm, &[]);
    let start = psid_on(&instance, &tpm);
    tpm.power_off();
    let mut psid = start.start();
    assert!(psid.degraded().contains("does not open"), "{}", psid.degraded());
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "live");
    tpm.power_on();
    psid.reload();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

/// The client secret, sealed beside the config: psid opens it.
#[test]
fn sealed_client_secret_is_opened() {
    let tpm = Tpm::start();
    let infisical = one();
    let instance = instance_on(&infisical);
    init(&instance, &tpm, &[]).ok();
    instance.take_client_secret();
    let sealed = instance.directory().join("etc/infisical-client-secret.cred");
    seal(&tpm, "infisical-client-secret", "7", CLIENT_SECRET, &sealed);
    let _psid = psid_on(&instance, &tpm).start();
    tpm.flush();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
}
