//! token: a static access token, in a credential or a file. There is no login.

use std::fs;

use serde_json::{Value, json};

use psi_harness::{Config, FakeInfisical, Instance, id, reference};

const CREDENTIAL: &str = "infisical-token";

fn secrets() -> Value {
    json!({"/myapp": {"A": "1", "B": "2", "C": "3", "D": "4"}})
}

/// An instance whose token is a credential that systemd delivers.
fn instance(infisical: &FakeInfisical) -> Instance {
    let instance = Instance::empty();
    instance.give_key(&[7; 32]);
    let mut config = Config::of(infisical).workload("myapp", "/myapp", false);
    config.auth = format!("method = \"token\"\ntoken_credential = \"{CREDENTIAL}\"\n");
    instance.configure(&config);
    give(&instance, &infisical.access_token());
    instance
}

fn give(instance: &Instance, token: &str) {
    fs::write(instance.credentials().join(CREDENTIAL), format!("{token}\n")).unwrap();
}

/// Requests to any route of logins, renewals and revocations.
fn auth_requests(infisical: &FakeInfisical) -> u64 {
    infisical.count("POST", "/api/v1/auth/")
}

#[test]
fn credential_or_file_is_used_without_a_login_and_never_revoked() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = instance(&infisical);
    let psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    assert_eq!(psid.degraded(), "");
    psid.terminate();
    let file = instance.directory().join("token");
    fs::write(&file, infisical.access_token()).unwrap();
    let mut config = Config::of(&infisical);
    config.auth = format!("method = \"token\"\ntoken_file = \"{}\"\n", file.display());
    instance.configure(&config);
    let psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    psid.terminate();
    assert_eq!(auth_requests(&infisical), 0);
    // Both tokens outlive psid.
    let psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "C")]).text(), "3");
    assert_eq!(psid.degraded(), "");
}

#[test]
fn refused_token_is_tried_rarely_and_its_successor_at_once() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = instance(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    psid.await_generation_after(0);
    let token = fs::read_to_string(instance.credentials().join(CREDENTIAL)).unwrap();
    infisical.revoke_token(token.trim());
    infisical.clear_log();
    let refused = |key: &str| {
        let line = instance.driver(&["get", &reference("/myapp", key)]).fails(75);
        let words = format!("Infisical refuses the access token of credential {CREDENTIAL} (");
        assert!(line.contains(&words), "{line}");
        assert!(line.contains("token has been revoked"), "{line}");
        assert!(line.contains("make another token for the identity (Token Auth"), "{line}");
        assert!(line.contains("psid tries again in "), "{line}");
        assert!(!line.contains(token.trim()), "{line}");
    };
    let unknown = |key: &str| refused(&format!("UNKNOWN-{key}"));
    unknown("A");
    let reads = infisical.reads();
    unknown("B");
    assert_eq!(infisical.reads(), reads, "a refused token is not sent again");
    assert!(psid.degraded().contains("token has been revoked"), "{}", psid.degraded());
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "nothing is evicted");
    // A restart does not forget it.
    psid.terminate();
    let psid = instance.start();
    unknown("C");
    assert_eq!(infisical.reads(), reads);
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    let outcome = instance.driver(&["cache", "refresh", "--retry"]).run();
    assert_eq!(outcome.code, 75, "{}", outcome.stderr);
    let tried = infisical.reads();
    assert!(tried > reads, "--retry makes one try");
    give(&instance, &infisical.access_token());
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    assert_eq!(psid.degraded(), "");
    psid.await_log("Infisical accepts token of credential infisical-token again");
    assert!(!psid.terminate().contains(token.trim()));
    assert_eq!(auth_requests(&infisical), 0);
}

#[test]
fn expired_token_is_named_as_expired() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = instance(&infisical);
    let _psid = instance.start();
    // Of a seed whose tokens end at once.
    let mut claims: Value = json!({"exp": 1, "iat": 0});
    claims["sub"] = "x".into();
    let encode = |value: &Value| {
        use base64::Engine;
        base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
    };
    give(&instance, &format!("{}.{}.c2ln", encode(&json!({"alg": "HS256"})), encode(&claims)));
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
    assert!(line.contains("; by this host's clock, it has expired"), "{line}");
    assert!(line.contains("Infisical answers 403 TokenError"), "{line}");
}

#[test]
fn missing_or_malformed_token_is_reported_and_not_sent() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = instance(&infisical);
    let path = instance.credentials().join(CREDENTIAL);
    fs::remove_file(&path).unwrap();
    let psid = instance.start();
    let lookup = instance.driver(&["get", &reference("/myapp", "A")]);
    let line = lookup.fails(75);
    assert!(
        line.contains("the access token is missing: no credential infisical-token, no "),
        "{line}"
    );
    assert!(line.contains("`psictl seal infisical-token`"), "{line}");
    for (text, words) in [
        ("", "is missing"),
        ("\n", "is empty"),
        ("\"quoted\"", "is in quotes"),
        ("two\nlines", "more than one line"),
        ("two words", "contains characters that no access token has"),
    ] {
        fs::write(&path, text).unwrap();
        let line = lookup.fails(75);
        assert!(line.contains(words), "{text:?}: {line}");
    }
    assert_eq!(infisical.reads(), 0);
    give(&instance, &infisical.access_token());
    assert_eq!(lookup.text(), "1");
    assert_eq!(psid.degraded(), "");
}

/// The owner of the token may read another project only.
#[test]
fn token_of_another_identity_is_a_denial_of_the_secret() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = instance(&infisical);
    infisical.end_membership();
    let _psid = instance.start();
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(77);
    assert!(line.contains("You are not a member of this project"), "{line}");
}
