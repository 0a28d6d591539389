//! Rekey and recovery of the data key, without loss.

use std::fs;

use serde_json::json;

use super::{init, instance_on, psid_on};
use psi_harness::{FakeInfisical, Instance, Psid, Tpm, id, reference};

/// An instance with a cached value and a literal, and its recovery key.
fn filled(infisical: &FakeInfisical, tpm: &Tpm) -> (Instance, String) {
    let instance = instance_on(infisical);
    let output = init(&instance, tpm, &[]).text();
    let recovery = output.lines().map(str::trim).find(|line| line.len() == 71).unwrap().to_owned();
    let psid = psid_on(&instance, tpm).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    instance.driver(&["store"]).id(id(3)).stdin("a deleted one").ok();
    instance.driver(&["delete"]).id(id(3)).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    psid.terminate();
    (instance, recovery)
}

fn one() -> FakeInfisical {
    FakeInfisical::with(&json!({"/myapp": {"A": "1"}}))
}

/// Asserts that everything is served in an outage.
#[track_caller]
fn has_everything(instance: &Instance, psid: &Psid) {
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

fn key_id(file: &[u8]) -> Vec<u8> {
    file[6..22].to_vec()
}

#[test]
fn rekey_replaces_the_key_of_every_file_and_loses_nothing() {
    let mut tpm = Tpm::start();
    let mut infisical = one();
    let (instance, recovery) = filled(&infisical, &tpm);
    infisical.kill();
    let sealed = [
        instance.cache(),
        instance.state().join("secrets").join(id(2)),
        instance.state().join("deleted").join(id(3)),
    ];
    let old = key_id(&fs::read(instance.cache()).unwrap());
    let psid = psid_on(&instance, &tpm).start();
    tpm.flush();
    let output = instance.driver(&["cache", "rekey"]).text();
    assert_eq!(output, "a new data key is in use; everything is encrypted with it\n");
    has_everything(&instance, &psid);
    let new = key_id(&fs::read(instance.cache()).unwrap());
    assert_ne!(new, old);
    for file in &sealed {
        assert_eq!(key_id(&fs::read(file).unwrap()), new, "{}", file.display());
    }
    assert!(!instance.directory().join("etc/cache.key.next").exists());
    psid.terminate();
    let psid = psid_on(&instance, &tpm).start();
    has_everything(&instance, &psid);
    instance.driver(&["restore", &id(3)]).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(3)).text(), "a deleted one");
    psid.terminate();
    // The recovery key from before the rekey.
    tpm.power_cycle();
    tpm.extend(7);
    let psid = psid_on(&instance, &tpm).start();
    tpm.flush();
    instance.driver(&["cache", "recover"]).stdin(format!("{recovery}\n")).ok();
    has_everything(&instance, &psid);
}

/// systemd#42028, or a new board: the key is sealed to PCR values that no longer exist.
#[test]
fn recovery_key_restores_cache_and_literals() {
    let mut tpm = Tpm::start();
    let mut infisical = one();
    let (instance, recovery) = filled(&infisical, &tpm);
    infisical.kill();
    tpm.power_cycle();
    tpm.extend(7);
    let psid = psid_on(&instance, &tpm).start();
    assert!(psid.degraded().contains("`psictl cache recover`"), "{}", psid.degraded());
    tpm.flush();
    let recover = |typed: &str| instance.driver(&["cache", "recover"]).stdin(format!("{typed}\n"));
    let other = "cbdefghi-".repeat(8);
    let line = recover(other.trim_end_matches('-')).fails(65);
    assert!(line.contains("the recovery key is another one"), "{line}");
    let line = recover("hunter2").fails(65);
    assert!(line.contains("it is not a recovery key: that has 64 of the letters"), "{line}");
    assert!(!line.contains("hunter2"));
    let line = recover("").fails(65);
    assert!(line.contains("the recovery key is empty"), "{line}");
    let output = recover(&recovery).text();
    assert!(output.contains("1 cached value and 1 literal can be decrypted"), "{output}");
    has_everything(&instance, &psid);
    let line = recover(&recovery).fails(65);
    assert!(line.contains("nothing to recover"), "{line}");
    assert!(!psid.log().contains(&recovery));
    psid.terminate();
    let psid = psid_on(&instance, &tpm).start();
    has_everything(&instance, &psid);
}

/// Two keys are needed and neither opens; the recovery is interrupted too.
#[test]
fn recovery_during_a_rekey_keeps_both_keys() {
    let mut tpm = Tpm::start();
    let infisical = one();
    let (instance, recovery) = filled(&infisical, &tpm);
    let literal = instance.state().join("secrets").join(id(2));
    let under_the_former = fs::read(&literal).unwrap();
    let in_the_way = instance.state().join("secrets").join(id(9));
    let psid = psid_on(&instance, &tpm).start();
    fs::create_dir(&in_the_way).unwrap();
    let rekey = instance.driver(&["cache", "rekey"]).run();
    assert_ne!(rekey.code, 0, "a directory cannot be sealed");
    psid.terminate();
    fs::write(&literal, under_the_former).unwrap();

    tpm.power_cycle();
    tpm.extend(7);
    let recover = || instance.driver(&["cache", "recover"]).stdin(format!("{recovery}\n"));
    let psid = psid_on(&instance, &tpm).start();
    tpm.flush();
    assert_ne!(recover().run().code, 0, "it is still in the way");
    psid.terminate();
    fs::remove_dir(&in_the_way).unwrap();
    for _ in 0..2 {
        let psid = psid_on(&instance, &tpm).start();
        tpm.flush();
        if psid.degraded().contains("`psictl cache recover`") {
            recover().ok();
        }
        has_everything(&instance, &psid);
        psid.terminate();
    }
}

#[test]
fn new_recovery_key_replaces_a_lost_or_damaged_one() {
    let mut tpm = Tpm::start();
    let infisical = one();
    let (instance, first) = filled(&infisical, &tpm);
    let file = instance.state().join("recovery.enc");
    let mut bytes = fs::read(&file).unwrap();
    bytes[60] ^= 1;
    fs::write(&file, bytes).unwrap();
    let psid = psid_on(&instance, &tpm).start();
    assert!(psid.degraded().contains("`psictl cache recovery-key`"), "{}", psid.degraded());
    let second = instance.driver(&["cache", "recovery-key"]).text();
    assert_ne!(second.trim(), first);
    assert_eq!(psid.degraded(), "");
    assert_eq!(psid.status()["has_recovery_key"], true);
    psid.terminate();
    tpm.power_cycle();
    tpm.extend(7);
    let psid = psid_on(&instance, &tpm).start();
    tpm.flush();
    instance.driver(&["cache", "recover"]).stdin(first).fails(65);
    instance.driver(&["cache", "recover"]).stdin(second).ok();
    has_everything(&instance, &psid);
}
