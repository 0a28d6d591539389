//! The binding of a sealed key, and the config's `seal_with`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{init, instance_on, psid_on};
use psi_harness::{Config, FakeInfisical, Instance, Probe, Tpm, hex, id, reference};

/// Seals with the real systemd-creds; `None` if it does not support the kind.
fn sealed(tpm: &Tpm, with_key: &str, name: &str, secret: &[u8]) -> Option<Vec<u8>> {
    tpm.flush();
    let mut creds = Command::new("systemd-creds");
    creds.args(["encrypt", &format!("--with-key={with_key}"), "--tpm2-pcrs=7"]);
    creds.args([&format!("--name={name}"), "-", "-"]).env("SYSTEMD_TPM2_DEVICE", tpm.device());
    creds.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut creds = creds.spawn().unwrap();
    let _ = creds.stdin.take().unwrap().write_all(secret);
    let output = creds.wait_with_output().unwrap();
    output.status.success().then_some(output.stdout)
}

/// Compares the table of kinds with the installed systemd-creds.
#[test]
fn every_seal_kind_of_systemd_is_recognised() {
    let tpm = Tpm::start();
    let mut probe = Probe::without_backend();
    let mut kind_of =
        |bytes: &[u8]| probe.ok(json!({ "do": "seal_kind", "credential": hex(bytes) }));
    for (with_key, kind, demand) in [
        ("tpm2", "tpm2", "Tpm2"),
        ("host+tpm2", "host+tpm2", "Tpm2"),
        ("host", "host", "Host"),
        // Without a TPM that the firmware knows too, 252 seals to nothing.
        ("auto-initrd", "null", "Any"),
    ] {
        let Some(bytes) = sealed(&tpm, with_key, "n", b"secret") else {
            panic!("systemd-creds does not seal with {with_key}");
        };
        let seal = kind_of(&bytes);
        assert_eq!(seal["with_key"], kind, "{with_key}");
        assert!(seal["accepted_by"].as_array().unwrap().contains(&json!(demand)), "{seal}");
        assert_eq!(seal["meets"], demand);
    }
    // 254 and newer have a name of their own for the last kind.
    if let Some(bytes) = sealed(&tpm, "null", "n", b"secret") {
        assert_eq!(kind_of(&bytes)["with_key"], "null");
    }
}

/// An instance with cached values under a key of this TPM.
fn filled(infisical: &FakeInfisical, tpm: &Tpm) -> Instance {
    let instance = instance_on(infisical);
    init(&instance, tpm, &[]).ok();
    let psid = psid_on(&instance, tpm).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    psid.terminate();
    instance
}

/// An attacker who can write the key file, and cannot use the TPM, replaces it by a key of their
/// own.
#[test]
fn key_sealed_to_less_is_refused_and_lookups_are_live() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = filled(&infisical, &tpm);
    let good = fs::read(instance.sealed_key()).unwrap();
    for (with_key, named) in [("host", "this host's own key"), ("auto-initrd", "nothing")] {
        let bytes = sealed(&tpm, with_key, "psi-cache-key", &[7; 32]).unwrap();
        fs::write(instance.sealed_key(), bytes).unwrap();
        let psid = psid_on(&instance, &tpm).start();
        let degraded = psid.degraded();
        let expected = format!("is sealed to {named}, and seal_with = \"tpm2\" in [cache] of ");
        assert!(degraded.contains(&expected), "{degraded}");
        assert!(degraded.contains("`psictl cache recover --seal-with tpm2`"), "{degraded}");
        assert!(!degraded.contains("--force"), "{degraded}");
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "live");
        psid.terminate();
    }
    fs::write(instance.sealed_key(), good).unwrap();
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
}

/// psid refuses a kind that it does not recognise.
#[test]
fn key_file_of_unknown_kind_is_refused() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = filled(&infisical, &tpm);
    fs::write(instance.sealed_key(), "bm8gY3JlZGVudGlhbCBvZiBzeXN0ZW1kJ3M=\n").unwrap();
    let psid = psid_on(&instance, &tpm).start();
    let degraded = psid.degraded();
    assert!(degraded.contains("sealed to something unknown to psid"), "{degraded}");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "live");
}

fn config_of(instance: &Instance) -> String {
    fs::read_to_string(instance.config()).unwrap()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn init_writes_the_seal_with_line_that_its_key_needs() {
    use std::os::unix::fs::PermissionsExt;
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_on(&infisical);
    let mine = config_of(&instance).replace("[cache]\n", "# mine\n[cache] # also mine\n");
    fs::write(instance.config(), &mine).unwrap();
    fs::set_permissions(instance.config(), fs::Permissions::from_mode(0o640)).unwrap();
    // The config's default needs no line.
    init(&instance, &tpm, &[]).ok();
    assert_eq!(config_of(&instance), mine);
    let output = init(&instance, &tpm, &["--seal-with", "host", "--force"]).text();
    assert!(output.contains("wrote seal_with = \"host\" to [cache] of "), "{output}");
    let changed = config_of(&instance);
    assert_eq!(changed.replace("seal_with = \"host\"\n", ""), mine, "nothing else changes");
    assert_eq!(mode(&instance.config()), 0o640);
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
    psid.terminate();
    // With `seal_with = "host"` the key is sealed to the host; a stricter seal is written back to
    // the config.
    init(&instance, &tpm, &["--force"]).ok();
    assert_eq!(config_of(&instance), changed);
    let printed = init(&instance, &tpm, &["--seal-with", "tpm2", "--force"]).text();
    assert!(printed.contains("wrote seal_with = \"tpm2\""), "{printed}");
    assert_eq!(config_of(&instance), changed.replace("\"host\"", "\"tpm2\""));
    let psid = psid_on(&instance, &tpm).start();
    assert_eq!(psid.degraded(), "");
}

/// A rekey seals the new key so that the next start accepts it; a reload with a stricter
/// `seal_with` reports it.
#[test]
fn rekey_and_reload_respect_seal_with() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = filled(&infisical, &tpm);
    let key = fs::read(instance.sealed_key()).unwrap();
    let mut psid = psid_on(&instance, &tpm).start();
    tpm.flush();
    let line = instance.driver(&["cache", "rekey", "--seal-with", "host"]).run().stderr;
    assert!(
        line.contains("the new key is sealed to this host's own key, and seal_with = \"tpm2\""),
        "{line}"
    );
    assert_eq!(fs::read(instance.sealed_key()).unwrap(), key);
    instance.configure(&Config {
        cache: "backend = \"tpm\"\nseal_with = \"host\"\n".into(),
        ..Config::of(&infisical)
    });
    psid.reload();
    tpm.flush();
    instance.driver(&["cache", "rekey", "--seal-with", "host"]).ok();
    assert_eq!(psid.degraded(), "");
    instance.configure(&Config { cache: "backend = \"tpm\"\n".into(), ..Config::of(&infisical) });
    psid.reload();
    assert!(
        psid.degraded().contains("the key in use is sealed to this host's own key"),
        "{}",
        psid.degraded()
    );
    tpm.flush();
    instance.driver(&["cache", "rekey"]).ok();
    psid.reload();
    assert_eq!(psid.degraded(), "");
}

#[test]
fn init_reads_the_backend_from_the_config() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_on(&infisical);
    let bare = |instance: &Instance| {
        tpm.flush();
        let path = std::env::var_os("PATH").unwrap_or_default();
        instance
            .driver(&["cache", "init"])
            .env("SYSTEMD_TPM2_DEVICE", tpm.device())
            .env("PATH", path)
    };
    instance.configure(&Config { cache: String::new(), ..Config::of(&infisical) });
    let line = bare(&instance).fails(65);
    assert!(line.contains(" names no key backend; choose --backend tpm"), "{line}");
    instance.configure(&Config { cache: "backend = \"tpm\"\n".into(), ..Config::of(&infisical) });
    let output = bare(&instance).text();
    assert!(output.contains("sealed a new key in"), "{output}");
}
