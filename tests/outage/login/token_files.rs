//! jwt, oidc and spiffe: a token in a file, which an agent replaces.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use serde_json::{Value, json};

use psi_harness::machine::{ISSUED, JWT, Machine, Method, OIDC, SPIFFE};
use psi_harness::{fault, id, reference};

fn secrets() -> Value {
    json!({"/myapp": {"A": "1", "B": "2", "C": "3"}})
}

/// Each with a fake and a psid of its own, at once.
fn each(test: impl Fn(Method) + Sync) {
    thread::scope(|scope| {
        for method in ISSUED {
            let test = &test;
            thread::Builder::new()
                .name(method.name.to_owned())
                .spawn_scoped(scope, move || test(method))
                .unwrap();
        }
    });
}

#[test]
fn token_changed_between_logins_is_used() {
    each(|method| {
        let machine = Machine::of(method, &secrets());
        let first = fs::read_to_string(machine.token_file()).unwrap();
        let _psid = machine.instance.start();
        machine.instance.driver(&["get", &reference("/myapp", "A")]).ok();
        machine.infisical.advance(2_592_000 + 1);
        let second = machine.give_token(&json!({"lifetimeSeconds": 7200}));
        assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
        let bodies = machine.login_bodies();
        let sent: Vec<&str> = bodies.iter().map(|body| body["jwt"].as_str().unwrap()).collect();
        assert_eq!(sent, [first.trim(), &second]);
    });
}

/// Infisical's own reason, and the names that the identity's settings must list.
#[test]
fn refused_token_is_named_with_its_bindings() {
    let settings: [(Method, Value, &str); 9] = [
        (
            JWT,
            json!({"boundIssuer": "https://other"}),
            "403 ForbiddenError: Access denied: issuer mismatch",
        ),
        (JWT, json!({"boundSubject": "other"}), "Access denied: subject not allowed"),
        (JWT, json!({"boundAudiences": "a, b"}), "Access denied: token audience not allowed"),
        (JWT, json!({"boundClaims": {"team": "x"}}), "Access denied: token has no team field"),
        (
            OIDC,
            json!({"boundIssuer": "https://other"}),
            "jwt issuer invalid. expected: https://other",
        ),
        (OIDC, json!({"boundSubject": "other"}), "Access denied: OIDC subject not allowed."),
        (OIDC, json!({"reachable": false}), "Failed to fetch OIDC discovery document"),
        (SPIFFE, json!({"allowedAudiences": "vault"}), "JWT-SVID audience validation failed"),
        (SPIFFE, json!({"trustDomain": "other.org"}), "401 UnauthorizedError: Access denied;"),
    ];
    thread::scope(|scope| {
        for (method, settings, words) in &settings {
            scope.spawn(move || {
                let machine = Machine::with_settings(*method, &secrets(), settings);
                let psid = machine.instance.start();
                for key in ["A", "B"] {
                    let line = machine.instance.driver(&["get", &reference("/myapp", key)]).fails(75);
                    assert!(line.contains(words), "{settings}: {line}");
                    let names = "has issuer 'https://issuer.example', subject 'spiffe://example.org/psid' \
                                 and audience 'infisical'";
                    assert!(line.contains(names), "{settings}: {line}");
                    assert!(line.contains(" auth in Infisical this "), "{settings}: {line}");
                    assert!(line.contains("psid tries again in "), "{settings}: {line}");
                }
                assert_eq!(machine.logins(), 1, "{settings}");
                assert!(psid.degraded().contains(words), "{settings}: {}", psid.degraded());
            });
        }
    });
}

#[test]
fn forged_token_is_tried_once_and_its_successor_at_once() {
    each(|method| {
        let machine = Machine::of(method, &secrets());
        machine.give_token(&json!({"forged": true}));
        let _psid = machine.instance.start();
        let lookup = |key| machine.instance.driver(&["get", &reference("/myapp", key)]);
        for key in ["A", "B"] {
            let line = lookup(key).fails(75);
            assert!(line.contains("signature"), "{line}");
        }
        assert_eq!(machine.logins(), 1);
        machine.give_token(&json!({}));
        assert_eq!(lookup("C").text(), "3");
        assert_eq!(machine.logins(), 2);
    });
}

#[test]
fn identity_without_the_method_is_refused_with_its_name() {
    for (method, words) in [
        (JWT, "JWT auth method not found for identity"),
        (OIDC, "OIDC auth method not found for identity"),
        (SPIFFE, "SPIFFE auth method not found for identity"),
    ] {
        let machine = Machine::launch(method, &psi_harness::seed(&secrets()));
        let _psid = machine.instance.start();
        let line = machine.instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(line.contains(words), "{line}");
    }
}

/// The agent that writes the tokens is down: what is cached is served.
#[test]
fn expired_token_is_reported_and_evicts_nothing() {
    each(|method| {
        let machine = Machine::of(method, &secrets());
        let psid = machine.instance.start();
        machine.instance.persist_reference(&psid);
        psid.terminate();
        machine.give_token(&json!({"lifetimeSeconds": -1}));
        machine.infisical.clear_log();
        let psid = machine.instance.start();
        for key in ["B", "C"] {
            let line = machine.instance.driver(&["get", &reference("/myapp", key)]).fails(75);
            assert!(line.contains("expired"), "{line}");
            assert!(line.contains("; by this host's clock, the credential has expired"), "{line}");
        }
        assert_eq!(machine.logins(), 1);
        assert!(psid.degraded().contains("expired"), "{}", psid.degraded());
        assert_eq!(machine.instance.driver(&["lookup"]).id(id(1)).text(), "1");
        machine.give_token(&json!({}));
        assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
        assert_eq!(psid.degraded(), "");
    });
}

#[test]
fn missing_or_malformed_token_is_reported_and_not_sent() {
    each(|method| {
        let machine = Machine::of(method, &secrets());
        let path = machine.token_file();
        fs::remove_file(&path).unwrap();
        let psid = machine.instance.start();
        let lookup = machine.instance.driver(&["get", &reference("/myapp", "A")]);
        let line = lookup.fails(75);
        let missing = format!("in {}: No such file", path.display());
        assert!(line.contains(&missing), "{line}");
        assert!(
            line.contains(&format!("to {}, readable for psid's user", path.display())),
            "{line}"
        );
        assert!(psid.degraded().contains(&missing), "{}", psid.degraded());
        for text in ["", "canary of a text", "a.b", "{\"token\": \"a.b.c\"}"] {
            fs::write(&path, text).unwrap();
            let line = lookup.fails(75);
            assert!(line.contains("is not a JSON web token"), "{line}");
            assert!(!line.contains("canary"), "{line}");
        }
        assert_eq!(machine.logins(), 0);
        machine.give_token(&json!({}));
        assert_eq!(lookup.text(), "1");
        assert_eq!(psid.degraded(), "");
    });
}

/// psid runs as user psi, and the agent wrote the file for root.
#[test]
fn unreadable_token_is_reported_with_its_path() {
    let machine = Machine::of(OIDC, &secrets());
    let path = machine.token_file();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    // A directory is unreadable as a file for root too.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let _psid = machine.instance.start();
    let line = machine.instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
    assert!(
        line.contains(&format!("the OIDC token in {}: Is a directory", path.display())),
        "{line}"
    );
    assert_eq!(machine.logins(), 0);
}

#[test]
fn rate_limit_of_logins_is_waited_for() {
    each(|method| {
        let machine = Machine::of(method, &secrets());
        machine.infisical.fault_login(psi_harness::IDENTITY, &fault::too_many(600));
        for _ in 0..2 {
            let psid = machine.instance.start();
            let line = machine.instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
            assert!(line.contains("429"), "{line}");
            psid.terminate();
        }
        assert_eq!(machine.logins(), 1);
        machine.infisical.heal();
        let _psid = machine.instance.start();
        machine.instance.driver(&["cache", "refresh", "--retry"]).run();
        assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    });
}
