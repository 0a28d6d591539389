//! Credentials and tokens of clouds and clusters, by which psid logs in.

use std::path::Path;

use serde_json::{Value, json};

use super::canaries::{Canaries, canary};
use super::echo::{Answer, Echo, Shape, quoting};
use super::memory::{await_gone, holding};
use psi_harness::machine::{ALL, AWS, METHODS, Machine, TLS_CERT, TOKEN};
use psi_harness::{Token, id, reference};

/// A machine whose cloud returns canaries.
struct Scenario {
    machine: Machine,
    canaries: Canaries,
    outputs: Vec<(String, Vec<u8>)>,
    /// The latest proof.
    proof: String,
}

impl Scenario {
    fn new(machine: impl Fn(&Value) -> Machine) -> Self {
        let value = canary("value");
        let machine = machine(&json!({"/myapp": {"A": value, "B": value}}));
        let mut canaries = Canaries::default();
        canaries.add("the value", value.as_bytes());
        for (name, secret) in machine.secrets() {
            canaries.add(name, &secret);
        }
        let [key, token] = ["key", "session"].map(canary);
        machine.infisical.cloud(&json!({"aws": {"secretAccessKey": key, "sessionToken": token}}));
        canaries.add("the role's secret key", key.as_bytes());
        canaries.add("the role's session token", token.as_bytes());
        Self { machine, canaries, outputs: Vec::new(), proof: String::new() }
    }

    fn call(&mut self, args: &[&str]) {
        let driver = self.machine.instance.driver(args).id(id(1));
        let outcome = driver.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").run();
        let mut words = outcome.stderr.into_bytes();
        if !matches!(args[0], "lookup" | "get") || outcome.code != 0 {
            words.extend(outcome.stdout);
        }
        self.outputs.push((format!("the output of {args:?}"), words));
    }

    fn ask(&mut self) {
        let a = reference("/myapp", "A");
        for args in [&["cache", "invalidate", &a][..], &["get", &a], &["cache", "refresh"]] {
            self.call(args);
        }
        self.call(&["cache", "status"]);
        self.call(&["cache", "status", "--json"]);
    }

    /// Adds every proof and every token that the fake has received or issued.
    fn learn(&mut self) {
        let logins = self.machine.login_bodies();
        assert!(!logins.is_empty() || self.machine.method == TOKEN, "there was no login");
        for body in logins {
            for member in ["jwt", "iamRequestHeaders"] {
                if let Some(proof) = body[member].as_str() {
                    self.canaries.add("the proof", proof.as_bytes());
                    let signature = proof.rsplit('.').next().unwrap();
                    self.canaries.add("the proof's signature", signature.as_bytes());
                    self.proof = proof.to_owned();
                }
            }
        }
        for request in self.machine.infisical.log() {
            for (header, name) in [
                ("authorization", "the access token"),
                ("x-aws-ec2-metadata-token", "the session with the metadata service"),
            ] {
                let text = request.header(header).trim_start_matches("Bearer ");
                if !text.is_empty() {
                    self.canaries.add(name, text.as_bytes());
                    if self.proof.is_empty() {
                        text.clone_into(&mut self.proof);
                    }
                }
            }
        }
        self.machine.infisical.clear_log();
    }

    #[track_caller]
    fn nothing_is_shown(&self, log: &str) {
        self.canaries.absent("psid's log", log.as_bytes());
        for (place, words) in &self.outputs {
            self.canaries.absent(place, words);
        }
        let instance = &self.machine.instance;
        assert_eq!(self.canaries.below(instance.directory(), &instance.credentials()), None);
        if let Some(token) = &self.machine.token {
            assert_eq!(self.canaries.below(&token.directory().join("faults"), Path::new("")), None);
        }
    }
}

fn faults() -> Vec<Value> {
    let plain =
        ["reset", "truncate", "html-403-waf", "captive-portal", "garbage-json", "wrong-shape"];
    let mut faults: Vec<Value> = plain.iter().map(|kind| json!({"kind": kind})).collect();
    for code in [400, 401, 403, 404, 422, 429, 500] {
        faults.push(json!({"kind": "status", "code": code, "error": "Oops", "message": "No."}));
    }
    faults
}

#[test]
fn no_login_proof_is_logged_displayed_or_written() {
    std::thread::scope(|scope| {
        for method in ALL {
            let machine = move |secrets: &Value| Machine::of(method, secrets);
            scope.spawn(move || a_whole_life(Scenario::new(machine)));
        }
    });
}

/// The key of the certificate is on the token: the PIN is the secret of this host.
#[test]
fn no_pin_of_a_token_that_signs_logins_is_logged_displayed_or_written() {
    let pin = canary("pin");
    let mut scenario = Scenario::new(|secrets| {
        let machine = Machine::on_token(Token::kryoptic(), secrets);
        let token = machine.token.as_ref().unwrap();
        token.change_pin(&pin);
        token.give_pin(&pin);
        machine
    });
    scenario.canaries.add("the PIN", pin.as_bytes());
    a_whole_life(scenario);
}

fn a_whole_life(mut scenario: Scenario) {
    let psid = scenario.machine.psid().env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
    let mut psid = psid.start();
    let driver = scenario.machine.instance.driver(&["store"]).id(id(1));
    driver.stdin(reference("/myapp", "A")).ok();
    scenario.ask();
    scenario.learn();
    assert_eq!(scenario.canaries.shown_by(psid.process.pid()), None);
    for fault in faults() {
        for port in ["api", "metadata"] {
            scenario.machine.instance.forget_refusals();
            psid.reload();
            scenario.machine.infisical.faults(&json!([{"port": port, "fault": fault}]));
            scenario.ask();
            scenario.machine.infisical.heal();
        }
    }
    scenario.machine.instance.forget_refusals();
    psid.reload();
    scenario.ask();
    scenario.learn();
    assert_eq!(scenario.canaries.shown_by(psid.process.pid()), None);
    let log = psid.terminate();
    assert!(log.contains("Oops"), "{log}");
    scenario.nothing_is_shown(&log);
    // The same search finds a planted proof.
    std::fs::write(scenario.machine.instance.state().join("planted"), &scenario.proof).unwrap();
    assert!(scenario.canaries.below(&scenario.machine.instance.state(), Path::new("")).is_some());
}

/// Infisical, or a proxy in its place, quotes the login request.
#[test]
fn login_quoted_by_the_server_is_not_repeated() {
    for method in METHODS {
        let mut scenario = Scenario::new(|secrets| Machine::of(method, secrets));
        let token = canary("token");
        scenario.canaries.add("the access token", token.as_bytes());
        let echo = Echo::start(&token, "the value");
        let mut config = scenario.machine.config();
        config.infisical = config.infisical.replace(scenario.machine.infisical.url(), &echo.url);
        scenario.machine.instance.configure(&config);
        let mut answers = quoting();
        for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "500 Oops"] {
            answers.push(Answer { status, kind: "application/json", shape: Shape::Message });
        }
        let mut psid = scenario.machine.instance.start();
        for answer in answers {
            scenario.machine.instance.forget_refusals();
            psid.reload();
            echo.answers(true, &answer);
            scenario.ask();
        }
        // A proof is recognised by its beginning: the header of a token or of the signed request.
        let log = psid.terminate();
        assert!(log.contains("(it quotes the credential)"), "{log}");
        for (place, words) in
            scenario.outputs.iter().chain([&("psid's log".to_owned(), log.clone().into_bytes())])
        {
            let words = String::from_utf8_lossy(words);
            for proof in ["eyJ", "AWS4-HMAC"] {
                assert!(!words.contains(proof), "{proof} is in {place}:\n{words}");
            }
        }
        scenario.nothing_is_shown(&log);
    }
}

/// The key is read for each login. Freed memory is wiped, and no connection keeps it.
#[test]
fn private_key_is_in_memory_only_during_the_login() {
    let machine = Machine::of(TLS_CERT, &json!({"/myapp": {"A": "1"}}));
    let psid = machine.instance.start();
    machine.instance.driver(&["get", &reference("/myapp", "A")]).ok();
    for (_, form) in machine.secrets() {
        await_gone(&psid, &form);
    }
    await_gone(&psid, machine.private_number());
    assert_ne!(holding(&psid, "127.0.0.1"), [""; 0]);
}

/// A role's key is needed briefly. Freed memory is wiped, and no buffer keeps the key.
#[test]
fn role_key_is_wiped_from_memory() {
    let machine = Machine::of(AWS, &json!({"/myapp": {"A": "1"}}));
    let key = canary("key");
    machine.infisical.cloud(&json!({"aws": {"secretAccessKey": key}}));
    let psid = machine.instance.start();
    machine.instance.driver(&["get", &reference("/myapp", "A")]).ok();
    await_gone(&psid, &key);
    // The same search finds text that is in memory.
    assert_ne!(holding(&psid, machine.infisical.url().replace("http://", "")), [""; 0]);
}
