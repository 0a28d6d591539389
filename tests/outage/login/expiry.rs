//! Credentials that expire: a notice comes first, and psid is degraded in the last days.

use std::time::Duration;

use serde_json::{Value, json};

use psi_harness::ca::{CLIENT, Subject};
use psi_harness::machine::{JWT, Machine, TLS_CERT, TOKEN};
use psi_harness::{Clock, Psid, id, reference};

const DAY: Duration = Duration::from_secs(86_400);

fn secrets() -> Value {
    json!({"/myapp": {"A": "1"}})
}

/// What `psictl status` says: its exit status, its text and its JSON.
fn status(machine: &Machine) -> (i32, String, Value) {
    let text = machine.instance.driver(&["status"]).run();
    let report = machine.instance.driver(&["status", "--json"]).report_json();
    (text.code, text.stdout_text(), report)
}

/// Nothing is said of a credential that is valid for long, besides its end.
fn is_quiet(machine: &Machine, line: &str) {
    let (code, text, json) = status(machine);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("login      {line}\n")), "{text}");
    let credential = &json["providers"][0]["credentials"][0];
    assert_eq!(credential["remedy"], Value::Null, "{json}");
    let metrics = machine.instance.driver(&["metrics"]).text();
    let seconds = credential["expires_ms"].as_u64().unwrap() / 1_000;
    let sample = "psi_login_expiry_timestamp_seconds{provider=\"infisical\",identity=\"";
    let sample = metrics.lines().find(|found| found.starts_with(sample)).unwrap();
    assert!(sample.contains(&format!("}} {seconds}.")), "{sample}");
}

/// It is reported with its remedy, and psid is not degraded.
fn is_noticed(machine: &Machine, line: &str, remedy: &str) {
    let (code, text, json) = status(machine);
    assert_eq!((code, json["degraded"].as_array().unwrap().len()), (0, 0), "{text}");
    let begins = format!("login      {line}; ");
    assert!(
        text.lines().any(|found| found.starts_with(&begins) && found.contains(remedy)),
        "{text}"
    );
    let found = json["providers"][0]["credentials"][0]["remedy"].as_str().unwrap();
    assert!(found.contains(remedy), "{json}");
    let login = machine.instance.driver(&["login"]).run();
    assert_eq!(login.code, 0, "{}", login.stderr);
    assert!(
        login.stdout_text().contains(&format!("warning    {line}; ")),
        "{}",
        login.stdout_text()
    );
}

/// psid is degraded by it.
fn is_an_alarm(machine: &Machine, psid: &Psid, line: &str, remedy: &str) {
    let (code, text, json) = status(machine);
    assert_eq!((code, &json["degraded_causes"]), (1, &json!(["login-expiry"])), "{text}");
    let degraded = psid.degraded();
    assert!(degraded.starts_with(&format!("{line}; ")) && degraded.contains(remedy), "{degraded}");
    assert_eq!(text.matches(line).count(), 1, "{text}");
}

#[test]
fn client_certificate_is_reported_before_it_expires() {
    let machine = Machine::of(TLS_CERT, &secrets());
    let certify = |days| {
        let ca = machine.ca.as_ref().unwrap();
        let subject = Subject { days, ..CLIENT };
        ca.certify_key(&machine.key_file(), subject, &machine.certificate_file());
    };
    certify(90);
    let clock = Clock::of(&machine.instance);
    let psid = clock.on(machine.psid()).start();
    let named = format!("the certificate in {}", machine.certificate_file().display());
    let remedy = "have its CA issue another one, and write it to ";
    assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    is_quiet(&machine, &format!("{named} expires in 89 days"));
    clock.advance(62 * DAY);
    is_noticed(&machine, &format!("{named} expires in 27 days"), remedy);
    clock.advance(22 * DAY);
    is_an_alarm(&machine, &psid, &format!("{named} expires in 5 days"), remedy);
    clock.advance(8 * DAY);
    is_an_alarm(&machine, &psid, &format!("{named} expired 2 days ago"), remedy);
    assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    // Another one is seen without a login and without a restart.
    certify(400);
    assert_eq!(psid.degraded(), "");
}

#[test]
fn static_token_is_reported_before_it_expires() {
    let machine = Machine::of(TOKEN, &secrets());
    let clock = Clock::of(&machine.instance);
    let psid = clock.on(machine.psid()).start();
    let named = format!("the access token of {}", machine.token_file().display());
    let remedy = "make another token for the identity (Token Auth in Infisical), and write it to ";
    is_quiet(&machine, &format!("{named} expires in 29 days"));
    clock.advance(21 * DAY);
    is_noticed(&machine, &format!("{named} expires in 8 days"), remedy);
    clock.advance(5 * DAY);
    is_an_alarm(&machine, &psid, &format!("{named} expires in 3 days"), remedy);
    assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
}

/// A credential is opened for a login only: its end is known after the first one.
#[test]
fn static_token_in_a_credential_is_reported_once_it_was_used() {
    let machine = Machine::of(TOKEN, &secrets());
    let mut config = machine.config().workload("myapp", "/myapp", false);
    config.auth = "method = \"token\"\ntoken_credential = \"token\"\n".into();
    machine.instance.configure(&config);
    let clock = Clock::of(&machine.instance);
    clock.advance(27 * DAY);
    let psid = clock.on(machine.psid()).start();
    assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    let line = "the access token of credential token expires in 2 days";
    is_an_alarm(&machine, &psid, line, "`psictl seal token`");
}

/// An agent replaces it: only its end is a fault, which is found while the access token still serves.
#[test]
fn token_file_is_reported_when_its_agent_is_down() {
    let machine = Machine::of(JWT, &secrets());
    let psid = machine.psid().start();
    machine.instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    assert_eq!(machine.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    machine.give_token(&json!({"lifetimeSeconds": 5}));
    assert_eq!(psid.degraded(), "");
    machine.give_token(&json!({"lifetimeSeconds": -310}));
    let named = format!("the JSON web token in {}", machine.token_file().display());
    let remedy = "have the token's issuer write it to ";
    is_an_alarm(&machine, &psid, &format!("{named} expired 6 min ago"), remedy);
    machine.give_token(&json!({}));
    assert_eq!((psid.degraded().as_str(), machine.logins()), ("", 1));
}
