//! The suite of the secret providers, on real ones: Infisical over HTTP against its fake, and the
//! token through its module.

use serde_json::{Value, json};

use psi_harness::{Config, FakeInfisical, Instance, PROJECT, Probe, Token, bytes, hex};

/// A provider under test, and the faults of its server or token.
struct Subject {
    name: &'static str,
    probe: Probe,
    /// References to existing values, each with its value.
    stored: Vec<(Value, Vec<u8>)>,
    /// Valid references to missing values, and the error of their fetch.
    unknown: Vec<(Value, &'static str)>,
    /// Malformed references.
    malformed: Vec<Value>,
    /// A configured namespace, and one that is not.
    namespaces: [String; 2],
    other_side: OtherSide,
}

enum OtherSide {
    Infisical(
        Box<FakeInfisical>,
        #[expect(dead_code, reason = "dropped with the subject")] Instance,
    ),
    Token(Token, #[expect(dead_code, reason = "dropped with the subject")] Instance),
}

impl OtherSide {
    /// The number of requests so far.
    fn requests(&self) -> usize {
        match self {
            Self::Infisical(fake, _) => fake.log().len(),
            Self::Token(token, _) => token.calls("C_Initialize") + token.calls("C_Decrypt"),
        }
    }

    fn take_away(&mut self) {
        match self {
            Self::Infisical(fake, _) => fake.kill(),
            Self::Token(token, _) => token.pull_out(),
        }
    }

    fn bring_back(&mut self) {
        match self {
            Self::Infisical(fake, _) => fake.restart(),
            Self::Token(token, _) => token.put_back(),
        }
    }
}

fn namespace(parts: &[&str]) -> String {
    json!(parts).to_string()
}

fn infisical() -> Subject {
    let values = ["plain", "two\nlines", "häßlich ✓", "{\"json\": [1, 2]}", "x"];
    let names = ["A", "B", "C", "D", "E"];
    let directory: serde_json::Map<_, _> =
        names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let fake = FakeInfisical::with(&json!({"/app": directory}));
    let instance = Instance::of(&fake);
    let members = |key: &str| json!({"project": "myproject", "path": "/app", "key": key});
    Subject {
        name: "infisical",
        probe: Probe::of_provider("infisical", &instance, &[]),
        stored: names
            .iter()
            .zip(values)
            .map(|(name, value)| (members(name), value.into()))
            .collect(),
        unknown: vec![
            (members("NOT_THERE"), "NotFound"),
            (json!({"project": "myproject", "path": "/elsewhere", "key": "A"}), "NotFound"),
        ],
        malformed: vec![
            json!({}),
            json!({"project": "myproject"}),
            json!({"project": "another", "key": "A"}),
            json!({"project": "myproject", "key": ".."}),
            json!({"project": "myproject", "key": "A", "blob": "x"}),
        ],
        namespaces: [
            namespace(&["infisical", PROJECT, "prod"]),
            namespace(&["infisical", "another", "prod"]),
        ],
        other_side: OtherSide::Infisical(Box::new(fake), instance),
    }
}

fn pkcs11() -> Subject {
    let token = Token::kryoptic();
    let instance = Instance::empty();
    instance.configure(&Config {
        cache: String::new(),
        infisical: String::new(),
        auth: String::new(),
        rest: token.config(),
    });
    // Sealing uses the token, so a process of its own does it.
    let mut sealer = Probe::of_provider("pkcs11", &instance, &token.environment());
    let mut seal =
        |secret: &[u8]| sealer.ok(json!({"do": "seal", "secret": hex(secret)}))["members"].clone();
    let values =
        [&b"plain"[..], b"two\nlines\n", "häßlich ✓".as_bytes(), b"\0\xff\r\n", &[7; 9_000]];
    let stored: Vec<_> = values.iter().map(|value| (seal(value), value.to_vec())).collect();
    let foreign = |at: usize| {
        // One changed bit of the wrapped key or of the ciphertext, in base64.
        let blob = stored[0].0["blob"].as_str().unwrap();
        let other = if &blob[at..=at] == "A" { "B" } else { "A" };
        json!({"blob": format!("{}{other}{}", &blob[..at], &blob[at + 1..])})
    };
    let unknown = vec![(foreign(100), "Misbehaved"), (foreign(350), "Misbehaved")];
    let subject = Subject {
        name: "pkcs11",
        probe: Probe::of_provider("pkcs11", &instance, &token.environment()),
        unknown,
        malformed: vec![
            json!({}),
            json!({"blob": "*"}),
            json!({"blob": ""}),
            json!({"blob": "aGVsbG8gd29ybGQ="}),
            json!({"blob": stored[0].0["blob"], "key": "A"}),
        ],
        stored,
        namespaces: [namespace(&["pkcs11"]), namespace(&["pkcs11", "another"])],
        other_side: OtherSide::Token(token, instance),
    };
    drop(sealer);
    subject
}

fn on_each(check: impl Fn(Subject)) {
    for subject in [infisical(), pkcs11()] {
        check(subject);
    }
}

fn accept(members: &Value) -> Value {
    json!({"do": "accept", "members": members})
}

fn fetch(members: &Value) -> Value {
    json!({"do": "fetch", "members": members})
}

#[test]
fn provider_fetches_stored_values_unchanged() {
    on_each(|mut subject| {
        for _ in 0..2 {
            for (members, value) in &subject.stored {
                let fetched = subject.probe.ok(fetch(members));
                assert_eq!(bytes(&fetched["value"]), *value, "{}: {members}", subject.name);
            }
        }
    });
}

#[test]
fn provider_accepts_references_without_requests() {
    on_each(|mut subject| {
        let before = subject.other_side.requests();
        subject.other_side.take_away();
        let mut places = Vec::new();
        for (members, _) in &subject.stored {
            let place = subject.probe.ok(accept(members));
            let again = subject.probe.ok(accept(members));
            let members_of = |place: &Value| {
                ["namespace", "path", "key"].map(|name| place[name].as_str().unwrap().to_owned())
            };
            assert_eq!(members_of(&place), members_of(&again));
            assert_eq!(place["namespace"], subject.namespaces[0]);
            places.push(members_of(&place));
        }
        places.sort();
        places.dedup();
        assert_eq!(places.len(), subject.stored.len(), "{}", subject.name);
        if let OtherSide::Token(..) = subject.other_side {
            assert_eq!(subject.other_side.requests(), before);
        }
    });
}

/// Any text that podman may pass: an error of one line, and no request.
#[test]
fn provider_rejects_malformed_references() {
    on_each(|mut subject| {
        let before = subject.other_side.requests();
        let mut odd = subject.malformed.clone();
        for name in ["project", "path", "key", "blob", "", "\0", "ключ"] {
            for value in ["", "\0", "/", "..", "\n\r", "'\"\\", "✓", &"x".repeat(100_000)] {
                odd.push(json!({name: value}));
                odd.push(json!({"project": "myproject", "key": value, name: value}));
            }
        }
        for members in odd {
            let answer = subject.probe.ask(accept(&members));
            let is_nonsense = subject.malformed.contains(&members);
            let Some(why) = answer["error"].as_str() else {
                assert!(!is_nonsense, "{}: {members}", subject.name);
                continue;
            };
            assert!(!why.is_empty() && !why.contains('\n'), "{}: {why}", subject.name);
            let fetched = subject.probe.ask(fetch(&members));
            assert_eq!(fetched["kind"], "Misbehaved", "{}: {members}", subject.name);
        }
        assert_eq!(subject.other_side.requests(), before, "{}", subject.name);
    });
}

#[test]
fn provider_reports_unknown_secrets() {
    on_each(|mut subject| {
        for (members, kind) in &subject.unknown {
            subject.probe.ok(accept(members));
            let answer = subject.probe.ask(fetch(members));
            assert_eq!(answer["kind"], *kind, "{}: {answer}", subject.name);
            let why = answer["error"].as_str().unwrap();
            assert!(!why.is_empty() && !why.contains('\n'), "{}: {why}", subject.name);
        }
        // The provider is unaffected and serves existing values.
        let (members, value) = &subject.stored[0];
        assert_eq!(bytes(&subject.probe.ok(fetch(members))["value"]), *value);
    });
}

#[test]
fn provider_reports_unreachable_until_recovery() {
    on_each(|mut subject| {
        let (members, value) = subject.stored[0].clone();
        subject.probe.ok(fetch(&members));
        subject.other_side.take_away();
        for _ in 0..2 {
            let answer = subject.probe.ask(fetch(&members));
            assert_eq!(answer["kind"], "Unreachable", "{}: {answer}", subject.name);
            let why = answer["error"].as_str().unwrap();
            assert!(!why.is_empty() && !why.contains('\n'), "{}: {why}", subject.name);
        }
        subject.other_side.bring_back();
        assert_eq!(bytes(&subject.probe.ok(fetch(&members))["value"]), value, "{}", subject.name);
    });
}

#[test]
fn provider_knows_only_configured_namespaces() {
    on_each(|mut subject| {
        let before = subject.other_side.requests();
        let [own, other] = subject.namespaces.clone();
        for (namespace, knows) in
            [(own, true), (other, false), (String::new(), false), ("[]".into(), false)]
        {
            let answer = subject.probe.ok(json!({"do": "knows", "namespace": namespace}));
            assert_eq!(answer["knows"], knows, "{}: {namespace}", subject.name);
        }
        assert_eq!(subject.other_side.requests(), before);
    });
}

/// A source has a scope or is refused without a request; a listing has the values of single
/// fetches, under the keys that `accept` returns.
#[test]
fn provider_listing_matches_scope_and_fetches() {
    on_each(|mut subject| {
        for (project, path) in [("myproject", "/app"), ("another", "/app"), ("", "")] {
            let source = |what: &str| json!({"do": what, "project": project, "path": path});
            let before = subject.other_side.requests();
            let scope = subject.probe.ask(source("scope"));
            assert_eq!(subject.other_side.requests(), before);
            let listed = subject.probe.ask(source("list"));
            if let Some(why) = scope["error"].as_str() {
                assert_eq!(
                    (&listed["kind"], &listed["error"]),
                    (&json!("Misbehaved"), &json!(why))
                );
                assert_eq!(subject.other_side.requests(), before);
                continue;
            }
            assert_eq!(
                (&scope["namespace"], &scope["path"]),
                (&json!(subject.namespaces[0]), &json!(path))
            );
            let found = listed["found"].as_array().unwrap_or_else(|| panic!("{listed}"));
            assert_eq!(found.len(), subject.stored.len());
            for (members, value) in &subject.stored {
                let place = subject.probe.ok(accept(members));
                let one = found.iter().find(|one| one["key"] == place["key"]).unwrap();
                assert_eq!(
                    (&one["path"], &one["namespace"]),
                    (&place["path"], &place["namespace"])
                );
                assert_eq!(bytes(&one["value"]), *value);
            }
        }
    });
}

/// Values that can be listed are persisted and refreshed; values that a token decrypts are neither.
#[test]
fn provider_persists_only_listable_secrets() {
    on_each(|mut subject| {
        let source = json!({"do": "scope", "project": "myproject", "path": "/app"});
        let lists = subject.probe.ask(source)["error"].is_null();
        let persistence = if lists { "Persisted" } else { "MemoryOnly" };
        assert_eq!(subject.probe.ok(json!({"do": "persistence"}))["persistence"], persistence);
    });
}
