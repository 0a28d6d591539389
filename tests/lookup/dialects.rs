//! Infisical has three dialects, by its version; psid must read the same values from each.

use serde_json::{Value, json};

use psi_harness::{Config, FakeInfisical, Instance, id, reference, seed};

const DIALECTS: [&str; 3] = ["v3-only", "v4-2025", "v4-2026"];

/// `/myapp` imports `/other`, then `/shared`, which imports `/base`.
fn seed_with_imports() -> Value {
    let mut seed = seed(&json!({
        "/myapp": {"OWN": "own", "DB_HOST": "own wins", "URL": "${DB_HOST}:${prod.shared.PORT}"},
        "/other": {"PORT": "first import", "ONLY_OTHER": "other"},
        "/shared": {"PORT": "last import wins", "DB_HOST": "shadowed"},
        "/base": {"BASE": "base"},
    }));
    let import = |into: &str, from: &str| json!({"environment": "prod", "path": into, "from": {"environment": "prod", "path": from}});
    seed["projects"][0]["imports"] = json!([
        import("/myapp", "/other"),
        import("/myapp", "/shared"),
        import("/shared", "/base"),
    ]);
    seed
}

const EXPECTED: [(&str, &str); 6] = [
    ("BASE", "base"),
    ("DB_HOST", "own wins"),
    ("ONLY_OTHER", "other"),
    ("OWN", "own"),
    ("PORT", "last import wins"),
    ("URL", "own wins:last import wins"),
];

#[test]
fn single_reads_find_own_secrets_then_the_last_import() {
    for dialect in DIALECTS {
        let infisical = FakeInfisical::launch(&seed_with_imports(), &["--dialect", dialect]);
        let instance = Instance::of(&infisical);
        let _psid = instance.start();
        for (number, (key, value)) in (0..).zip(EXPECTED) {
            instance.driver(&["store"]).id(id(number)).stdin(reference("/myapp", key)).ok();
            let found = instance.driver(&["lookup"]).id(id(number)).text();
            assert_eq!(found, value, "{key} by {dialect}");
        }
    }
}

#[test]
fn listing_and_single_reads_give_the_same_values() {
    for dialect in DIALECTS {
        let mut infisical = FakeInfisical::launch(&seed_with_imports(), &["--dialect", dialect]);
        let instance = Instance::of(&infisical);
        instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
        let _psid = instance.start();
        let report = instance.driver(&["cache", "refresh", "--json"]).json();
        assert_eq!((&report["added"], &report["failed"]), (&json!(6), &json!(0)), "{dialect}");
        infisical.kill();
        for (key, value) in EXPECTED {
            let found = instance.driver(&["get", &format!("myapp--{key}")]).text();
            assert_eq!(found, value, "{key} by {dialect}");
        }
    }
}

/// psid tries v4 a few times on a server without v4, not at each lookup.
#[test]
fn old_server_is_recognised_after_a_few_requests() {
    let keys: Vec<String> = (0..6).map(|number| format!("KEY_{number}")).collect();
    let directory: serde_json::Map<_, _> =
        keys.iter().map(|key| (key.clone(), json!(key))).collect();
    let infisical =
        FakeInfisical::with_options(&json!({"/myapp": directory}), &["--dialect", "v3-only"]);
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    for (number, key) in (0..).zip(&keys) {
        assert_eq!(instance.driver(&["get", &reference("/myapp", key)]).text(), *key);
        assert_eq!(infisical.count("GET", "/api/v3/secrets"), number + 1);
    }
    assert_eq!(infisical.count("GET", "/api/v4/secrets"), 3);
}

/// A route that is missing for a moment does not switch psid to v3 until a restart: v3 resolves
/// references differently.
#[test]
fn single_bare_404_does_not_change_the_api_version() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2", "C": "3"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    for key in ["A", "B", "C"] {
        instance.driver(&["get", &reference("/myapp", key)]).ok();
        infisical.lose_route_once("list");
    }
    let v3 = infisical.count("GET", "/api/v3/secrets");
    assert_eq!((v3, infisical.count("GET", "/api/v4/secrets")), (0, 5));
}

/// The server is updated while psid runs, and later rolled back.
#[test]
fn psid_follows_a_changed_dialect_of_the_server() {
    let infisical =
        FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2", "C": "3", "D": "4"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    for (dialect, key, value) in
        [("v4-2026", "A", "1"), ("v3-only", "B", "2"), ("v4-2025", "C", "3"), ("v3-only", "D", "4")]
    {
        infisical.control("PUT", "/dialect", &json!({"dialect": dialect}));
        assert_eq!(instance.driver(&["get", &reference("/myapp", key)]).text(), value);
    }
}
