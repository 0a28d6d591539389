//! kubernetes: a token in a file, which kubelet rotates.

use std::fs;

use serde_json::json;

use psi_harness::machine::{KUBERNETES, Machine};
use psi_harness::{id, reference};

fn machine() -> Machine {
    let secrets = json!({"/myapp": {"A": "1", "B": "2", "C": "3", "D": "4"}});
    Machine::with_settings(KUBERNETES, &secrets, &json!({"allowedNamespaces": "default"}))
}

#[test]
fn rotated_token_is_used() {
    let machine = machine();
    let first = fs::read_to_string(machine.token_file()).unwrap();
    let _psid = machine.instance.start();
    machine.instance.driver(&["get", &reference("/myapp", "A")]).ok();
    // The access token has ended, and kubelet has rotated the file.
    machine.infisical.advance(2_592_000 + 1);
    let second = machine.give_token(&json!({"lifetimeSeconds": 7200}));
    assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    let sent: Vec<String> = machine
        .login_bodies()
        .iter()
        .map(|body| body["jwt"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(sent, [first.trim(), &second]);
}

/// A token that the cluster refuses is not tried again; another one is tried at once.
#[test]
fn refused_token_is_tried_once_and_its_successor_at_once() {
    let machine = machine();
    machine.give_token(&json!({"namespace": "elsewhere"}));
    let _psid = machine.instance.start();
    let lookup = |key| machine.instance.driver(&["get", &reference("/myapp", key)]);
    for key in ["A", "B"] {
        let line = lookup(key).fails(75);
        assert!(line.contains("Access denied: K8s namespace not allowed."), "{line}");
    }
    assert_eq!(machine.logins(), 1);
    machine.give_token(&json!({"forged": true}));
    let line = lookup("C").fails(75);
    assert!(line.contains("error in cryptographic primitive"), "{line}");
    machine.give_token(&json!({}));
    assert_eq!(lookup("D").text(), "4");
    assert_eq!(machine.logins(), 3);
}

/// The rotation has failed: this is no statement about the identity, and cached values are served.
#[test]
fn expired_service_account_token_is_not_sent() {
    let machine = machine();
    let psid = machine.instance.start();
    machine.instance.persist_reference(&psid);
    psid.terminate();
    machine.give_token(&json!({"lifetimeSeconds": -1}));
    machine.infisical.clear_log();
    let psid = machine.instance.start();
    for key in ["B", "C"] {
        let line = machine.instance.driver(&["get", &reference("/myapp", key)]).fails(75);
        assert!(line.contains("service account token has expired"), "{line}");
        assert!(line.contains("; by this host's clock, the credential has expired"), "{line}");
    }
    assert_eq!(machine.logins(), 1);
    assert!(psid.degraded().contains("has expired"), "{}", psid.degraded());
    assert!(!psid.degraded().contains("gone or denied"), "{}", psid.degraded());
    assert_eq!(machine.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    machine.give_token(&json!({}));
    assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
}

#[test]
fn malformed_token_is_reported_and_not_sent() {
    let machine = machine();
    let psid = machine.instance.start();
    machine.instance.persist_reference(&psid);
    psid.terminate();
    fs::remove_file(machine.token_file()).unwrap();
    machine.infisical.clear_log();
    let psid = machine.instance.start();
    let unknown = machine.instance.driver(&["get", &reference("/myapp", "B")]);
    let path = machine.token_file();
    let missing = format!("the service account's token in {}: No such file", path.display());
    let line = unknown.fails(75);
    assert!(line.contains(&missing), "{line}");
    assert!(psid.degraded().contains(&missing), "{}", psid.degraded());
    for text in ["", "canary of a text", "a.b"] {
        fs::write(&path, text).unwrap();
        let line = unknown.fails(75);
        assert!(line.contains("is not a JSON web token"), "{line}");
        assert!(!line.contains("canary"), "{line}");
    }
    assert_eq!(machine.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(machine.logins(), 0);
    machine.give_token(&json!({}));
    assert_eq!(unknown.text(), "2");
}
