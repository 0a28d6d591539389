//! `psictl hsm status`.

use serde_json::{Value, json};

use psi_harness::SealedFixture;
use psi_harness::{Instance, PIN};

#[test]
fn hsm_status_reports_a_healthy_token() {
    let fixture = SealedFixture::with_kryoptic();
    let _psid = fixture.start();
    let status = fixture.driver(&["hsm", "status", "--json"]).json();
    assert_eq!((&status["state"], &status["pin"]), (&json!("ready"), &json!("accepted")));
    assert_eq!((&status["last_error"], &status["away_since_ms"]), (&Value::Null, &Value::Null));
    let token = &status["token"];
    assert_eq!((&token["label"], &token["slot"]), (&json!("psi"), &json!(1)));
    assert_eq!(token["manufacturer"], "Kryoptic Project");
    assert_eq!(token["pin_status"], "good");
    for name in ["model", "serial", "firmware"] {
        assert!(token[name].as_str().is_some_and(|text| !text.is_empty()), "{status}");
    }
    let key = json!({"label": "podman-secrets", "id": "02", "bits": 2048, "may_decrypt": true, "may_sign": true});
    assert_eq!(status["key"], key);

    let text = fixture.driver(&["hsm", "status"]).text();
    for line in [
        "state      ready\n",
        "PIN        accepted\n",
        "token      psi in slot 1: Kryoptic Project ",
        "key        podman-secrets, id 02: RSA of 2048 bits, may decrypt and sign\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("ERROR"), "{text}");
}

#[test]
fn hsm_status_reports_faults_with_known_details() {
    let fixture = SealedFixture::with_kryoptic();
    fixture.token.give_pin("00000000");
    let mut psid = fixture.start();
    let report = || {
        let status = fixture.driver(&["hsm", "status", "--json"]).json();
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        (text("state"), text("pin"), text("last_error"), status)
    };

    let (state, pin, error, status) = report();
    assert_eq!((state.as_str(), pin.as_str()), ("pin-refused", "not-accepted"));
    assert!(error.contains("the token refused the PIN in ") && error.contains("; "), "{error}");
    assert_eq!((&status["token"]["label"], &status["key"]), (&json!("psi"), &Value::Null));
    let text = fixture.driver(&["hsm", "status"]).text();
    assert!(text.contains("ERROR      the token refused the PIN"), "{text}");
    assert_eq!(fixture.token.calls("C_Login"), 1, "asking for the status costs no try");

    fixture.token.give_pin(PIN);
    fixture.instance.configure(&psi_harness::Config {
        rest: fixture.token.config().replace("podman-secrets", "another"),
        ..fixture.config()
    });
    psid.reload();
    let (_, pin, error, status) = report();
    assert_eq!((pin.as_str(), &status["key"]), ("accepted", &Value::Null));
    assert!(
        error.contains("no private key with the label 'another'")
            && error.contains("'podman-secrets'"),
        "{error}"
    );

    fixture.token.pull_out();
    let (state, pin, error, status) = report();
    assert_eq!((state.as_str(), pin.as_str()), ("away", "untried"));
    assert!(error.contains("no token has the label 'psi'"), "{error}");
    assert!(status["away_since_ms"].is_u64() && status["token"].is_null(), "{status}");
}

#[test]
fn hsm_status_fails_without_daemon_or_configured_token() {
    let instance = Instance::empty();
    instance.driver(&["hsm", "status"]).fails(69);
    let fixture = SealedFixture::with_kryoptic();
    fixture.instance.configure(&psi_harness::Config { rest: String::new(), ..fixture.config() });
    let _psid = fixture.start();
    let line = fixture.driver(&["hsm", "status", "--json"]).fails(65);
    assert!(line.contains("the config has no [providers.pkcs11]; add it"), "{line}");
}
