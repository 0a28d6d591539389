//! Access tokens: obtained by one login, used until they end, and kept in RAM.

use std::fs;

use serde_json::json;

use psi_harness::{
    CLIENT_SECRET, Config, FakeInfisical, Instance, Signal, directory_holds, eventually, reference,
    seed,
};

#[test]
fn expired_token_costs_one_login_and_no_lookup() {
    for expired_is_401 in [false, true] {
        let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2", "C": "3"}}));
        infisical.settings(&json!({"tokenExpired401": expired_is_401}));
        let instance = Instance::of(&infisical);
        let _psid = instance.start();
        assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
        assert_eq!(infisical.logins(), 1);
        infisical.advance(2_592_000 + 1);
        assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
        assert_eq!(instance.driver(&["get", &reference("/myapp", "C")]).text(), "3");
        assert_eq!(infisical.logins(), 2);
    }
}

#[test]
fn revoked_token_costs_one_login_and_no_lookup() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    instance.driver(&["get", &reference("/myapp", "A")]).ok();
    infisical.control("POST", "/revoke", &json!({"identityId": psi_harness::IDENTITY}));
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    assert_eq!(infisical.logins(), 2);
}

/// The server's AUTH_SECRET was rotated: every issued token has an "invalid signature".
#[test]
fn server_with_another_jwt_secret_costs_one_login() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    instance.driver(&["get", &reference("/myapp", "A")]).ok();
    infisical.settings(&json!({"authSecret": "another one"}));
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    assert_eq!(infisical.logins(), 2);
}

/// Three failed logins in 30 s lock the identity for every host that shares it.
#[test]
fn wrong_client_secret_is_not_tried_at_every_lookup() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.give_client_secret("wrong");
    let psid = instance.start();
    for _ in 0..5 {
        let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(
            line.contains("Infisical answers 401 UnauthorizedError: Invalid credentials"),
            "{line}"
        );
        assert!(
            line.contains("; seal a new client secret with `psictl seal infisical-client-secret`"),
            "{line}"
        );
        assert!(!line.contains("wrong"), "{line}");
    }
    assert_eq!(infisical.logins(), 1);
    // A corrected secret is tried without a restart.
    instance.give_client_secret(&format!("{CLIENT_SECRET}\n"));
    eventually("the corrected secret to be tried", || {
        let outcome = instance.driver(&["get", &reference("/myapp", "A")]).run();
        (outcome.code == 0 && outcome.stdout == b"1").then_some(())
    });
    assert_eq!(infisical.logins(), 2);
    drop(psid);
}

#[test]
fn projects_of_one_identity_share_its_token() {
    let mut whole = seed(&json!({"/a": {"K": "one"}}));
    let mut other = whole["projects"][0].clone();
    other["id"] = json!("6f2d1b0e-0000-4000-8000-0000000000bb");
    other["secrets"]["prod"] = json!({"/a": {"K": "two"}});
    let mut third = other.clone();
    third["id"] = json!("6f2d1b0e-0000-4000-8000-0000000000cc");
    third["secrets"]["prod"] = json!({"/a": {"K": "three"}});
    whole["projects"].as_array_mut().unwrap().extend([other, third]);
    let mut identity = whole["identities"][0].clone();
    identity["id"] = json!("i-2");
    identity["clientId"] = json!("other-client");
    whole["identities"].as_array_mut().unwrap().push(identity);
    let infisical = FakeInfisical::launch(&whole, &[]);
    let instance = Instance::of(&infisical);
    let mut config = Config::of(&infisical);
    config.rest = "[providers.infisical.projects.second]\n\
                   id = \"6f2d1b0e-0000-4000-8000-0000000000bb\"\nenvironment = \"prod\"\n\
                   [providers.infisical.projects.third]\n\
                   id = \"6f2d1b0e-0000-4000-8000-0000000000cc\"\nenvironment = \"prod\"\n\
                   [providers.infisical.projects.third.auth]\nmethod = \"universal-auth\"\n\
                   client_id = \"other-client\"\n\
                   client_secret_credential = \"infisical-client-secret\"\n"
        .into();
    instance.configure(&config);
    let _psid = instance.start();
    for (project, value, logins) in
        [("myproject", "one", 1), ("second", "two", 1), ("third", "three", 2)]
    {
        let text = json!({"provider": "infisical", "project": project, "path": "/a", "key": "K"});
        assert_eq!(instance.driver(&["get", &text.to_string()]).text(), value);
        assert_eq!(infisical.logins(), logins, "{project}");
    }
}

/// In maintenance every login fails, and reads with a live token succeed: a token is used until it
/// is refused.
#[test]
fn live_token_is_used_while_logins_fail() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    instance.driver(&["get", &reference("/myapp", "A")]).ok();
    infisical.fault(&json!({"kind": "maintenance"}));
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
}

/// N10: the Python PSI kept its access tokens in plain files.
#[test]
fn n10_no_token_or_client_secret_is_written() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.persist_reference(&psid);
    let log = infisical.log();
    let read = log.iter().find(|request| request.is_read()).unwrap();
    let token = read.header("authorization").strip_prefix("Bearer ").unwrap().to_owned();
    assert!(token.len() > 100);
    let log = psid.terminate();
    // The credential belongs to the service manager, in RAM; here it is a file.
    fs::remove_dir_all(instance.credentials()).unwrap();
    for secret in [token.as_str(), CLIENT_SECRET] {
        assert_eq!(directory_holds(instance.directory(), secret.as_bytes()), None);
        assert!(!log.contains(secret));
    }
}

fn revoked(infisical: &FakeInfisical) -> u64 {
    infisical.count("POST", "/api/v1/auth/token/revoke")
}

#[test]
fn clean_stop_revokes_the_access_token_and_reload_does_not() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let mut psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    psid.reload();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    assert_eq!(revoked(&infisical), 0);
    psid.terminate();
    assert_eq!(revoked(&infisical), 1);
    let log = infisical.log();
    let request = log.iter().find(|request| request.text("path").ends_with("/revoke")).unwrap();
    assert_eq!(request.0["status"], 200, "{request:?}");
    // There was no login, so there is nothing to revoke.
    infisical.clear_log();
    instance.start().terminate();
    assert_eq!(infisical.log().len(), 0);
}

/// An admin who stops psid because Infisical hangs need not wait for Infisical.
#[test]
fn psid_stops_while_the_server_hangs_or_is_absent() {
    for gone in [false, true] {
        let mut infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
        let instance = Instance::of(&infisical);
        let psid = instance.start();
        instance.driver(&["get", &reference("/myapp", "A")]).ok();
        match gone {
            true => infisical.kill(),
            false => infisical.signal(Signal::SIGSTOP),
        }
        let start = std::time::Instant::now();
        psid.terminate();
        assert!(start.elapsed() < std::time::Duration::from_secs(4), "{:?}", start.elapsed());
    }
}
