//! `psictl login`: the running psid asks with its own config; without a daemon, psid is run to ask.

use serde_json::{Value, json};

use psi_harness::{CLIENT_SECRET, Config, FakeInfisical, Instance};

fn configured(infisical: &FakeInfisical) -> Instance {
    let instance = Instance::of(infisical);
    instance.configure(&Config::of(infisical).workload("app", "/myapp", false));
    instance
}

#[test]
fn login_through_psid_reports_as_check_online_does() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = configured(&infisical);
    let call = |args: &[&str]| {
        let credentials = instance.credentials();
        instance.driver(&[&["login"][..], args].concat()).env("CREDENTIALS_DIRECTORY", credentials)
    };
    let without = call(&[]).text();
    let report = call(&["--json"]).json();
    let psid = instance.start();
    assert_eq!(
        call(&[]).text(),
        without.split_once('\n').unwrap().1,
        "without the line of the config"
    );
    let by_daemon = call(&["infisical", "--json"]).json();
    for member in ["well", "logins", "sources"] {
        assert_eq!(by_daemon[member], report[member]);
    }
    assert_eq!(infisical.logins(), 4, "one login for each call");
    assert_eq!(psid.status()["entries"], 0, "nothing is cached");
    let line = call(&["vault"]).fails(65);
    assert!(line.contains("no [providers.vault]"), "{line}");
}

#[test]
fn new_secret_is_tried_and_a_refused_one_is_not_repeated() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = configured(&infisical);
    let psid = instance.start();
    instance.driver(&["login"]).ok();
    infisical.change_client_secret("another-secret");
    for _ in 0..3 {
        let outcome = instance.driver(&["login"]).run();
        assert_eq!(outcome.code, 65, "{}", outcome.stderr);
        assert!(outcome.stdout_text().contains("the client id or the client secret is wrong"));
    }
    assert_eq!(infisical.logins(), 2);
    assert!(psid.degraded().contains("was refused"), "{}", psid.degraded());
    // The token of the first login is still good, and serves.
    assert_eq!(instance.driver(&["get", "app--A"]).text(), "1");
    let outcome = instance.driver(&["login", "--retry"]).run();
    assert_eq!((outcome.code, infisical.logins()), (65, 3));
    instance.give_client_secret("another-secret");
    let report = instance.driver(&["login", "--json"]).json();
    assert_eq!(report["logins"][0]["ok"], json!(true));
    assert_eq!(psid.degraded(), "");
    instance.give_client_secret(CLIENT_SECRET);
    let outcome = instance.driver(&["login", "--json"]).run();
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!((outcome.code, &report["well"]), (65, &json!(false)));
}

#[test]
fn login_is_for_admins() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload_of(1_234, "web", "/web"));
    let _psid = instance.start();
    instance.driver(&["login"]).user(&instance, 1234, 1234).fails(77);
    assert_eq!(infisical.logins(), 0);
}
