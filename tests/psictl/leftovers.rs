//! What a crash or a power cut leaves behind, and the doctor finds.

use std::fs;

use serde_json::{Value, json};

use psi_harness::{FakeInfisical, Host, Instance, program};

/// A crash can leave the next key, or the key without the rest.
#[test]
fn doctor_reports_an_interrupted_init_and_rekey() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    instance.take_key();
    let key = instance.config().with_file_name("cache.key");
    let next = instance.config().with_file_name("cache.key.next");
    let doctor = || {
        let outcome = instance.psid().args(&["doctor"]).run();
        let findings: Vec<Value> = serde_json::from_slice(&outcome.stdout).unwrap();
        let causes = ["rekey", "init-interrupted", "key"].map(Some);
        let of_key = findings.into_iter().filter(|it| causes.contains(&it["cause"].as_str()));
        let line = |it: Value| format!("{} {} {}", it["cause"], it["what"], it["remedy"]);
        of_key.map(line).collect::<Vec<String>>()
    };
    fs::write(&next, "sealed").unwrap();
    let found = doctor();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`psictl cache init` was interrupted"), "{found:?}");
    assert!(found[0].contains("`systemctl restart psid` completes it"), "{found:?}");
    fs::write(&key, "sealed").unwrap();
    let found = doctor();
    let is_rekey = |it: &&String| it.starts_with("\"rekey\"") && it.contains("is left beside");
    assert!(found.iter().any(|it| is_rekey(&it)), "{found:?}");
    fs::remove_file(&next).unwrap();
    let cut =
        |found: &[String]| found.iter().any(|it| it.contains("neither a cache nor a recovery key"));
    let found = doctor();
    assert!(
        cut(&found) && found.iter().any(|it| it.contains("`psictl cache recovery-key`")),
        "{found:?}"
    );
    fs::create_dir_all(instance.state()).unwrap();
    fs::write(instance.state().join("cache.enc"), "encrypted").unwrap();
    assert!(!cut(&doctor()));
}

/// Podman's drop-in decides where new secrets go.
#[test]
fn doctor_reports_an_empty_drop_in_of_podman() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    let empty = host.instance.directory().join("empty.conf");
    fs::write(&empty, "").unwrap();
    let program = program("psi-driver");
    let args = ["doctor", "--program", program.to_str().unwrap()];
    let call = host.driver(&args).env("CONTAINERS_CONF", &empty);
    let output = String::from_utf8(call.run().stdout).unwrap();
    assert!(output.contains("file driver") && output.contains("psictl install"), "{output}");
}
