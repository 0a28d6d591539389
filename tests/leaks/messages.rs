//! Secrets in logs, messages, reports and files.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::canaries::{Canaries, canary};
use super::echo::{Answer, Echo, Shape, quoting};
use psi_harness::{
    BROKEN_ANSWERS, Config, FakeInfisical, Instance, Outcome, Start, id, program, reference,
    repository, run, seed,
};

/// An instance full of canaries, and everything that it printed.
struct Scenario {
    infisical: FakeInfisical,
    instance: Instance,
    canaries: Canaries,
    value: String,
    literal: String,
    client_secret: String,
    outputs: Vec<(String, Vec<u8>)>,
}

impl Scenario {
    fn new() -> Self {
        let [value, literal, client_secret] = ["value", "literal", "client"].map(canary);
        let mut key = [0; 32];
        getrandom::fill(&mut key).unwrap();
        let mut seed = seed(&json!({"/myapp": {"A": value, "B": format!("{value}\n2")}}));
        seed["identities"][0]["clientSecrets"][0]["secret"] = json!(client_secret);
        seed["identities"][0]["lockout"] = json!({"enabled": false});
        let infisical = FakeInfisical::launch(&seed, &[]);
        let instance = Instance::of(&infisical);
        instance.give_key(&key);
        instance.give_client_secret(&client_secret);
        let mut canaries = Canaries::default();
        canaries.add("the value", value.as_bytes());
        canaries.add("the literal", literal.as_bytes());
        canaries.add("the client secret", client_secret.as_bytes());
        canaries.add("the data key", &key);
        Self { infisical, instance, canaries, value, literal, client_secret, outputs: Vec::new() }
    }

    fn config(&self) -> Config {
        Config::of(&self.infisical).workload("myapp", "/myapp", false)
    }

    /// psid with the most verbose log, by options and by variables of other programs.
    fn psid(&self, format: &str) -> Start {
        let psid = self.instance.psid().args(&["--log-level", "debug", "--log-format", format]);
        psid.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full")
    }

    /// Runs a program and records its output. The test ignores its exit status.
    fn call(&mut self, args: &[&str], number: u32, stdin: &str) -> Outcome {
        let driver = self.instance.driver(args).id(id(number)).stdin(stdin);
        let outcome = driver.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").run();
        let mut words = outcome.stderr.clone().into_bytes();
        // A lookup's output is the value itself.
        if !matches!(args[0], "lookup" | "get") || outcome.code != 0 {
            words.extend(&outcome.stdout);
        }
        self.outputs.push((format!("the output of {args:?}"), words));
        outcome
    }

    #[track_caller]
    fn looks_up(&mut self, number: u32, value: &str) {
        let outcome = self.call(&["lookup"], number, "");
        assert_eq!((outcome.code, outcome.stdout.as_slice()), (0, value.as_bytes()));
    }

    /// A lookup that makes a request, a refresh, and the reports of both.
    fn ask(&mut self) {
        for args in [
            &["cache", "invalidate", &reference("/myapp", "A")][..],
            &["lookup"],
            &["cache", "refresh"],
            &["cache", "status"],
        ] {
            self.call(args, 1, "");
        }
    }

    /// The same and all other reports.
    fn go_round(&mut self) {
        self.ask();
        for args in [
            &["get", "myapp--A"][..],
            &["cache", "refresh", "--json"],
            &["cache", "status", "--json", "--verify"],
            &["drill", "--for", "1s"],
            &["metrics"],
            &["health"],
            &["list"],
            &["restore"],
        ] {
            self.call(args, 1, "");
        }
    }

    /// Adds every access token that the fake has issued.
    fn learn_tokens(&mut self) {
        let mut found = 0;
        for request in self.infisical.log() {
            if let Some(token) = request.header("authorization").strip_prefix("Bearer ") {
                self.canaries.add("the access token", token.as_bytes());
                let signature = token.rsplit('.').next().unwrap();
                self.canaries.add("the access token's signature", signature.as_bytes());
                found += 1;
            }
        }
        assert!(found > 0, "the infisical saw no access token");
        self.infisical.clear_log();
    }

    #[track_caller]
    fn nothing_is_on_disk(&self) {
        let found = self.canaries.below(self.instance.directory(), &self.instance.credentials());
        assert_eq!(found, None);
    }

    #[track_caller]
    fn nothing_was_said(&self, log: &str) {
        self.canaries.absent("psid's log", log.as_bytes());
        for (place, words) in &self.outputs {
            self.canaries.absent(place, words);
        }
    }
}

/// The faults of the fake that take no time.
fn faults() -> Vec<Value> {
    let plain = BROKEN_ANSWERS.iter().chain(&["maintenance"]);
    let mut faults: Vec<Value> = plain.map(|kind| json!({"kind": kind})).collect();
    for code in [400, 401, 403, 404, 422, 429, 500] {
        let fault = json!({"kind": "status", "code": code, "error": "Oops", "message": "No."});
        faults.push(fault);
    }
    faults.push(json!({"kind": "redirect", "location": "http://elsewhere.invalid/", "code": 302}));
    faults
}

fn a_whole_life(format: &str, faults: &[Value]) {
    let mut scenario = Scenario::new();
    scenario.instance.configure(&scenario.config());
    let mut psid = scenario.psid(format).start();
    let (value, literal) = (scenario.value.clone(), scenario.literal.clone());
    scenario.call(&["store"], 1, &reference("/myapp", "A"));
    scenario.call(&["store"], 2, &literal);
    scenario.looks_up(1, &value);
    scenario.looks_up(2, &literal);
    // Failures of each kind: other content, empty, too large, no reference.
    scenario.call(&["store"], 2, &format!("{literal} other"));
    scenario.call(&["store"], 3, "");
    scenario.call(&["store"], 3, &literal.repeat(20_000));
    scenario.call(&["store", "--reference"], 3, &literal);
    scenario.call(
        &["store"],
        3,
        &json!({"provider": "infisical", "key": literal, "n": 1}).to_string(),
    );
    scenario.go_round();
    scenario.call(&["delete"], 2, "");
    scenario.call(&["restore"], 2, "");
    scenario.call(&["restore", &id(2)], 2, "");
    scenario.looks_up(2, &literal);
    scenario.learn_tokens();
    scenario.nothing_is_on_disk();

    for fault in faults {
        for method in ["POST", "GET"] {
            // Without the remembered refusal, psid meets this fault.
            scenario.instance.forget_refusals();
            psid.reload();
            scenario.infisical.faults(&json!([{"match": {"method": method}, "fault": fault}]));
            scenario.ask();
            scenario.infisical.heal();
        }
    }
    // A new psid does not remember a rate limit and makes a request at once.
    scenario.instance.forget_refusals();
    let faulty = psid.terminate();
    let mut psid = scenario.psid(format).start();
    let wrong = canary("wrong");
    scenario.canaries.add("the wrong client secret", wrong.as_bytes());
    scenario.instance.give_client_secret(&wrong);
    psid.reload();
    scenario.go_round();
    scenario.instance.give_client_secret(&scenario.client_secret);
    scenario.infisical.put("/myapp", "A", &format!("{value} changed"));
    psid.reload();
    scenario.go_round();
    scenario.looks_up(1, &format!("{value} changed"));
    scenario.learn_tokens();
    let log = faulty + &psid.log();
    // The faults and the wrong secret were met.
    assert!(log.contains("captive portal") && log.contains("Invalid credentials"), "{log}");
    scenario.nothing_is_on_disk();
    scenario.nothing_was_said(&log);

    let log = psid.terminate();
    // A lookup would wait for psid to return.
    for args in [&["cache", "status"][..], &["cache", "refresh"], &["health"]] {
        scenario.call(args, 1, "");
    }
    scenario.nothing_is_on_disk();
    scenario.nothing_was_said(&log);

    // The same searches find a planted secret.
    std::fs::write(scenario.instance.state().join("secrets/planted"), format!("x{value}")).unwrap();
    assert!(
        scenario
            .canaries
            .below(scenario.instance.directory(), &scenario.instance.credentials())
            .is_some()
    );
    assert!(scenario.canaries.below(&scenario.instance.credentials(), Path::new("")).is_some());
}

#[test]
fn no_secret_is_in_logs_messages_or_files() {
    a_whole_life("text", &faults());
}

#[test]
fn no_secret_is_in_a_json_log() {
    // The records of a JSON log have the same content: one fault suffices.
    a_whole_life("json", &[json!({"kind": "captive-portal"})]);
}

/// Answers a login or a read by each of `answers`; panics if psi repeats one. Returns the log,
/// which proves that psid received them.
#[track_caller]
fn meet(answers: &[Answer]) -> String {
    let mut scenario = Scenario::new();
    let token = canary("token");
    scenario.canaries.add("the access token", token.as_bytes());
    let echo = Echo::start(&token, &scenario.value);
    let mut config = scenario.config();
    config.infisical = config.infisical.replace(scenario.infisical.url(), &echo.url);
    scenario.instance.configure(&config);
    let mut psid = scenario.psid("text").start();
    scenario.call(&["store"], 1, &reference("/myapp", "A"));
    let value = scenario.value.clone();
    scenario.looks_up(1, &value);
    for answer in answers {
        for logins in [true, false] {
            scenario.instance.forget_refusals();
            psid.reload();
            echo.answers(logins, answer);
            scenario.call(&["cache", "invalidate", &reference("/myapp", "A")], 1, "");
            let outcome = scenario.call(&["lookup"], 1, "");
            assert_ne!(outcome.code, 0, "{answer:?} gave a value");
            scenario.call(&["cache", "refresh"], 1, "");
            scenario.call(&["cache", "status"], 1, "");
            let (place, words) = scenario.outputs.last().unwrap();
            scenario.canaries.absent(&format!("{place} after {answer:?}"), words);
        }
    }
    let log = psid.terminate();
    scenario.nothing_was_said(&log);
    log
}

#[test]
fn answer_of_a_proxy_is_not_quoted() {
    let log = meet(&quoting());
    for words in ["captive portal", "gateway", "proxy or firewall", "another origin", "line 1"] {
        assert!(log.contains(words), "{words} was never met:\n{log}");
    }
}

/// Infisical's messages are useful and are repeated, except for quotes of a request, which are the
/// token or the client secret.
#[test]
fn request_quoted_by_infisical_is_not_repeated() {
    let answers =
        ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "500 Oops"];
    let answers =
        answers.map(|status| Answer { status, kind: "application/json", shape: Shape::Message });
    let log = meet(&answers);
    assert!(log.contains("Infisical answers 400 Oops"), "{log}");
}

/// A client secret in the config itself is accepted with a warning. An error in the config names
/// the line and does not print it.
#[test]
fn client_secret_in_the_config_is_not_displayed() {
    let mut scenario = Scenario::new();
    let secret = scenario.client_secret.clone();
    let with = |line: &str| {
        let mut config = scenario.config();
        let credential = "client_secret_credential = \"infisical-client-secret\"";
        assert!(config.auth.contains(credential));
        config.auth = config.auth.replace(credential, line);
        config
    };
    let good = with(&format!("client_secret = \"{secret}\""));
    let bad = [
        format!("client_secret = \"{secret}"),
        format!("client_secret = {secret}"),
        format!("client_secret = [\"{secret}\"]"),
        format!("client_secret = {{ text = \"{secret}\" }}"),
        format!("client_secret = \"{secret}\" \"{secret}\""),
        format!("client_secret = \"{secret}\"\nclient_secret = \"{secret}\""),
        format!("client_secret = \"{secret}\"\nclient_secret_file = \"/x\""),
        format!("client_secret = \"{secret}\"\nunknown = \"{secret}\""),
        format!("client_secret = '''{secret}\n"),
        format!("client_secret = \"\\q{secret}\""),
        format!("client_secrets = \"{secret}\""),
    ]
    .map(|line| with(&line));
    scenario.instance.configure(&good);
    // As a command, beside the running psid.
    let psid = |scenario: &Scenario, args: &[&str]| {
        let mut command = Command::new(program("psid"));
        command.arg("--config").arg(scenario.instance.config()).args(args).env_clear();
        command
    };
    let check = |scenario: &mut Scenario| {
        let Outcome { code, stdout, stderr } = run(psid(scenario, &["check"]), b"");
        let words = [stdout, stderr.into_bytes()].concat();
        scenario.outputs.push(("the output of psid check".into(), words));
        code
    };
    assert_eq!(check(&mut scenario), 0);
    let mut running = scenario.psid("text").start();
    scenario.call(&["store"], 1, &reference("/myapp", "A"));
    let value = scenario.value.clone();
    scenario.looks_up(1, &value);
    for config in &bad {
        scenario.instance.configure(config);
        assert_eq!(check(&mut scenario), 65, "{config}");
        running.reload();
        assert!(running.degraded().contains("the config before it stays in force"), "{config}");
        scenario.go_round();
        let Outcome { code, stderr, .. } = run(psid(&scenario, &["--log-level", "debug"]), b"");
        assert_eq!(code, 65, "{stderr}");
        scenario.outputs.push(("psid's stderr".into(), stderr.into_bytes()));
    }
    let log = running.terminate();
    scenario.nothing_was_said(&log);
    // The search finds it in the config file.
    assert!(
        scenario
            .canaries
            .below(&scenario.instance.directory().join("etc"), Path::new(""))
            .is_some()
    );
}

/// Every user can read a unit's text, and its variables by `systemctl show`.
#[test]
fn shipped_units_contain_no_secret() {
    let units = repository().join("contrib/systemd");
    let mut seen = 0;
    let directories = [units.join("user"), units.join("psid.service.d"), units];
    for unit in directories.iter().flat_map(|directory| std::fs::read_dir(directory).unwrap()) {
        let path = unit.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let setting = line.split('=').next().unwrap().trim();
            let carries = ["Environment", "EnvironmentFile", "PassEnvironment", "SetCredential"];
            assert!(!carries.contains(&setting), "{}: {line}", path.display());
        }
        if path.extension().is_some_and(|kind| kind == "service") {
            for line in ["LimitCORE=0", "UMask=0077"] {
                assert!(text.lines().any(|have| have == line), "{}: no {line}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
}
