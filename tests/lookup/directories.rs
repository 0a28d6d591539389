//! A lookup reads a directory as a refresh does: by one listing, parts of which may be denied.

use serde_json::{Map, Value, json};

use psi_harness::{
    Config, FakeInfisical, Instance, Psid, eventually, fault, id, reference, rule, seed,
};

fn refresh(instance: &Instance) -> String {
    instance.driver(&["cache", "refresh"]).text()
}

/// The message of a refresh that could not list everything.
fn failing_refresh(instance: &Instance) -> String {
    let outcome = instance.driver(&["cache", "refresh"]).run();
    assert_ne!(outcome.code, 0);
    String::from_utf8(outcome.stdout).unwrap() + &outcome.stderr
}

fn lists(infisical: &FakeInfisical) -> usize {
    infisical.log().iter().filter(|request| is_list(request.text("path"))).count()
}

fn is_list(path: &str) -> bool {
    ["/api/v4/secrets", "/api/v3/secrets/raw"].contains(&path.split('?').next().unwrap_or_default())
}

fn gets(infisical: &FakeInfisical) -> usize {
    infisical
        .log()
        .iter()
        .filter(|request| request.is_read() && !is_list(request.text("path")))
        .count()
}

fn only(path: &str) -> Value {
    json!([{"environment": "*", "pathPrefix": path, "describe": true, "read": true, "write": true}])
}

/// A get by name resolves references through imports differently from a listing: if a miss used it,
/// a secret would alternate between two values.
#[test]
fn miss_and_refresh_give_the_same_value() {
    for dialect in ["v3-only", "v4-2025", "v4-2026"] {
        let mut whole = seed(&json!({
            "/app": {"DB_HOST": "db.example", "REFIMP": "${S1}", "OWN": "x${DB_HOST}y", "GONE": "a${NOPE}b"},
            "/shared": {"S1": "s1", "SUP": "${DB_HOST}"},
        }));
        whole["projects"][0]["imports"] = json!([
            {"environment": "prod", "path": "/app", "from": {"environment": "prod", "path": "/shared"}},
        ]);
        let infisical = FakeInfisical::launch(&whole, &["--dialect", dialect]);
        let instance = Instance::of(&infisical);
        let _psid = instance.start();
        let keys = ["REFIMP", "SUP", "OWN", "GONE", "S1"];
        let get = |key: &str| instance.driver(&["get", &reference("/app", key)]).text();
        let missed: Vec<String> = keys.iter().map(|key| get(key)).collect();
        if dialect == "v4-2026" {
            assert_eq!(missed[..2], ["s1", "db.example"]);
        }
        for (number, key) in (1..).zip(keys) {
            instance.driver(&["store"]).id(id(number)).stdin(reference("/app", key)).ok();
        }
        let output = refresh(&instance);
        assert!(output.contains("0 changed, 5 unchanged"), "{dialect}: {output}");
        let refreshed: Vec<String> = keys.iter().map(|key| get(key)).collect();
        assert_eq!(missed, refreshed, "{dialect}");
    }
}

/// A starting host looks up one secret after the other, while podman holds its lock.
#[test]
fn one_listing_caches_every_registered_secret_of_a_directory() {
    let mut infisical = FakeInfisical::with(&json!({
        "/app": {"A": "1", "B": "2", "C": "3", "D": "4", "UNREGISTERED": "5"}, "/other": {"E": "6"},
    }));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let keys = ["A", "B", "C", "D"];
    for (number, key) in (1..).zip(keys) {
        instance.driver(&["store"]).id(id(number)).stdin(reference("/app", key)).ok();
    }
    for (number, value) in (1..).zip(["1", "2", "3", "4"]) {
        assert_eq!(instance.driver(&["lookup"]).id(id(number)).text(), value);
    }
    assert_eq!((lists(&infisical), gets(&infisical)), (1, 0));
    // Unregistered secrets are not cached.
    assert_eq!(psid.status()["entries"], 4);
    assert_eq!(instance.driver(&["get", &reference("/other", "E")]).text(), "6");
    assert_eq!(lists(&infisical), 2);
    infisical.kill();
    assert_eq!(instance.driver(&["lookup"]).id(id(4)).text(), "4");
}

#[test]
fn identity_without_list_permission_gets_by_name() {
    let infisical = FakeInfisical::with(&json!({"/app": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    infisical.fault_listing(
        "/app",
        &fault::refusal(403, "PermissionDenied", "You are not allowed to list"),
    );
    assert_eq!(instance.driver(&["get", &reference("/app", "A")]).text(), "1");
    instance.driver(&["get", &reference("/app", "NONE")]).fails(66);
}

/// The server limits each route separately.
#[test]
fn throttled_listing_is_replaced_by_an_equivalent_get() {
    let infisical = FakeInfisical::with(&json!({"/app": {"A": "1", "B": "2", "REF": "${A}"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    infisical.fault_listing("/app", &fault::too_many(60));
    for (key, value) in [("A", "1"), ("B", "2")] {
        assert_eq!(instance.driver(&["get", &reference("/app", key)]).text(), value);
    }
    // While the server asks to wait, psid makes no other listing.
    assert_eq!((lists(&infisical), gets(&infisical)), (1, 2));
    let line = instance.driver(&["get", &reference("/app", "REF")]).fails(75);
    assert!(line.contains("429"), "{line}");
}

/// `/app` with a secret whose reference the identity may not read.
fn with_unreadable_reference() -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({
        "/app": {"A": "1", "B": "2", "C": "3", "OWN": "x${A}y"}, "/locked": {"L1": "secret"},
        "/shared": {"S1": "s1"},
    }));
    infisical.permit(&json!([only("/app")[0], only("/shared")[0]]));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/app", false));
    let psid = instance.start();
    (infisical, instance, psid)
}

#[test]
fn forbidden_reference_denies_only_its_own_key() {
    let (mut infisical, instance, psid) = with_unreadable_reference();
    assert!(refresh(&instance).contains("4 added"));
    infisical.put("/app", "R", "${prod.locked.L1}");
    infisical.put("/app", "B", "new");
    for _ in 0..2 {
        let output = failing_refresh(&instance);
        assert!(output.contains("/app/R: ") && output.contains("403"), "{output}");
        assert!(output.contains("0 removed"), "{output}");
    }
    assert_eq!(psid.status()["entries"], 4);
    assert_eq!(
        (psid.status()["withheld_count"].clone(), psid.status()["refused_count"].clone()).0,
        0
    );
    let line = instance.driver(&["get", "myapp--R"]).env("PATH", "/nowhere").fails(77);
    assert!(line.contains("403"), "{line}");
    infisical.kill();
    for (key, value) in [("A", "1"), ("B", "new"), ("C", "3"), ("OWN", "x1y")] {
        assert_eq!(instance.driver(&["get", &format!("myapp--{key}")]).text(), value);
    }
}

/// By name, such a secret would be empty: the cached value is kept, and without one the lookup
/// fails.
#[test]
fn imported_value_is_kept_while_its_listing_is_refused() {
    let (infisical, instance, psid) = with_unreadable_reference();
    infisical.import("/app", "/shared");
    infisical.put("/app", "THROUGH", "http://${S1}/x");
    refresh(&instance);
    assert_eq!(instance.driver(&["get", "myapp--THROUGH"]).text(), "http://s1/x");
    infisical.put("/app", "R", "${prod.locked.L1}");
    infisical.put("/app", "LATER", "http://${S1}/y");
    let output = failing_refresh(&instance);
    assert!(output.contains("/app/THROUGH: its reference leads through an import"), "{output}");
    assert_eq!(instance.driver(&["get", "myapp--THROUGH"]).text(), "http://s1/x");
    assert_eq!(instance.driver(&["get", "myapp--S1"]).text(), "s1");
    let line = instance.driver(&["get", "myapp--LATER"]).env("PATH", "/nowhere").run();
    assert!(line.code != 0 && line.stdout.is_empty(), "{}", line.stderr);
    // Without the reference, the next refresh succeeds.
    infisical.remove("/app", "R");
    refresh(&instance);
    assert_eq!(instance.driver(&["get", "myapp--LATER"]).text(), "http://s1/y");
    assert_eq!(psid.status()["withheld_count"], 0);
}

#[test]
fn failing_directory_does_not_affect_other_directories_of_its_source() {
    let (infisical, instance) = wide(6);
    let psid = instance.start();
    refresh(&instance);
    let before = psid.status()["entries"].clone();
    for fault in [fault::refusal(403, "PermissionDenied", "no"), fault::server_error()] {
        infisical.faults(&json!([
            rule(&json!({"secretPath": "/wide/d3", "route": "list"}), &fault),
            rule(&json!({"secretPath": "/wide/d3", "route": "imports"}), &fault),
            rule(&json!({"secretPath": "/wide/d3", "route": "get"}), &fault),
        ]));
        infisical.put("/wide/d5", "K", "changed by the side of it");
        let output = failing_refresh(&instance);
        assert!(output.contains("/wide/d3: "), "{output}");
        assert_eq!(instance.driver(&["get", &reference("/wide/d5", "K5")]).text(), "5");
        assert_eq!(psid.status()["entries"], before);
    }
}

/// A recursive source of this many directories, the last of which imports another one.
fn wide(directories: usize) -> (FakeInfisical, Instance) {
    let mut secrets = Map::new();
    for number in 0..directories {
        let key = format!("K{number}");
        secrets.insert(format!("/wide/d{number}"), json!({key: number.to_string(), "K": "each"}));
    }
    secrets.insert("/shared".into(), json!({"SHARED": "s"}));
    let infisical = FakeInfisical::with(&Value::Object(secrets));
    infisical.import(&format!("/wide/d{}", directories - 1), "/shared");
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("wide", "/wide", true));
    (infisical, instance)
}

/// The number of secrets of such a source.
fn size(directories: usize) -> usize {
    2 * directories + 1
}

#[test]
fn only_directories_with_imports_are_listed_separately() {
    let (infisical, instance) = wide(45);
    infisical.limit(&json!({"list": 40, "imports": 60}));
    let psid = instance.start();
    let output = refresh(&instance);
    assert!(output.contains(&format!("{} added", size(45))), "{output}");
    // The source, and the one directory that has an import.
    assert_eq!(lists(&infisical), 2);
    assert_eq!(psid.status()["entries"], size(45));
    assert_eq!(instance.driver(&["get", "wide--SHARED"]).env("PATH", "/nowhere").run().code, 66);
    assert_eq!(instance.driver(&["get", &reference("/wide/d44", "SHARED")]).text(), "s");
    // Without imports, one request suffices.
    let mut seed = seed(&json!({"/wide/a": {"A": "1"}, "/wide/b": {"B": "2"}}));
    seed["projects"][0]["imports"] = json!([]);
    let infisical = FakeInfisical::launch(&seed, &[]);
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("wide", "/wide", true));
    let _psid = instance.start();
    refresh(&instance);
    assert_eq!((lists(&infisical), infisical.count("GET", "/api/v2/secret-imports")), (1, 0));
}

/// 45 directories, 40 listings a minute, and no permission to read imports.
#[test]
fn wide_source_continues_after_a_429_and_loses_nothing() {
    let (infisical, instance) = wide(45);
    let rights = json!([{"environment": "*", "pathPrefix": "/", "describe": true, "read": true,
                         "write": true, "imports": false}]);
    infisical.permit(&rights);
    let psid = instance.start();
    refresh(&instance);
    assert_eq!(psid.status()["entries"], size(45));
    infisical.clear_log();
    let throttle =
        json!({"match": {"route": "list"}, "fault": fault::too_many(1), "after": 40, "times": 1});
    infisical.faults(&json!([throttle]));
    for number in 0..45 {
        infisical.put(&format!("/wide/d{number}"), "K", "new");
    }
    let output = failing_refresh(&instance);
    assert!(
        output.contains("429") && output.contains("the rest of it is listed later"),
        "{output}"
    );
    // The source, its own directory, 38 of those below, and the refused one.
    assert_eq!(lists(&infisical), 41);
    let status = psid.status();
    assert_eq!((&status["entries"], &status["withheld_count"]), (&json!(size(45)), &json!(0)));
    let output = eventually("the rest of the source", || {
        let outcome = instance.driver(&["cache", "refresh"]).run();
        (outcome.code == 0).then(|| String::from_utf8(outcome.stdout).unwrap())
    });
    assert!(output.contains("7 changed") && output.contains("0 removed"), "{output}");
    assert_eq!(lists(&infisical), 41 + 7, "what was listed is not listed again");
    let values = (0..45).map(|number| reference(&format!("/wide/d{number}"), "K"));
    for value in values {
        assert_eq!(instance.driver(&["get", &value]).text(), "new");
    }
    // The next refresh starts from the beginning.
    infisical.clear_log();
    refresh(&instance);
    assert_eq!(lists(&infisical), 47);
}

/// Podman accepts no larger value; a source may be as large as RAM allows.
#[test]
fn oversized_value_is_refused_by_name_and_others_are_served() {
    let infisical = FakeInfisical::with(&json!({
        "/app": {"A": "1", "FITS": "x".repeat(512_000), "LARGE": "x".repeat(512_001)},
    }));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/app", false));
    let psid = instance.start();
    let output = failing_refresh(&instance);
    assert!(output.contains("/app/LARGE: its value has 512001 bytes"), "{output}");
    assert_eq!(psid.status()["entries"], 2);
    let line = instance.driver(&["get", "myapp--LARGE"]).env("PATH", "/nowhere").run();
    assert!(line.code != 0 && line.stderr.contains("512001 bytes"), "{}", line.stderr);
    assert_eq!(instance.driver(&["get", "myapp--FITS"]).text().len(), 512_000);
}

/// A listing that began before an invalidation does not answer a lookup that came after it.
#[test]
fn lookup_after_an_invalidation_joins_no_earlier_listing() {
    let infisical = FakeInfisical::with(&json!({"/app": {"A": "old", "B": "old"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/app", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin(reference("/app", "B")).ok();
    // The fake makes its answer at once and sends it late.
    infisical
        .faults(&json!([{"match": {"route": "list"}, "fault": fault::slow(3_000), "times": 1}]));
    std::thread::scope(|scope| {
        let early = instance.driver(&["lookup"]).id(id(1));
        scope.spawn(move || early.run());
        infisical.await_count("GET", "/api/v4/secrets", 1);
        infisical.put("/app", "B", "new");
        instance.driver(&["cache", "invalidate", &reference("/app", "B")]).run();
        assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "new");
    });
    assert_eq!(lists(&infisical), 2);
    // The late answer did not undo it.
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "new");
}

#[test]
fn source_of_over_a_thousand_directories_is_refused_without_loss() {
    let mut secrets = Map::new();
    for number in 0..1_001 {
        secrets.insert(format!("/wide/d{number}"), json!({"K": "1"}));
    }
    let infisical = FakeInfisical::with(&Value::Object(secrets));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("wide", "/wide", true));
    let psid = instance.start();
    let output = failing_refresh(&instance);
    assert!(output.contains("it has 1001 directories, more than 1000"), "{output}");
    assert_eq!(psid.status()["entries"], 0);
    infisical.remove("/wide/d7", "K");
    assert!(refresh(&instance).contains("1000 added"));
}

/// psid gets each secret with a reference by name; a rate limit pauses that too, and it continues
/// where it stopped.
#[test]
fn gets_by_name_continue_after_a_429() {
    let (infisical, instance, psid) = with_unreadable_reference();
    for number in 0..10 {
        infisical.put("/app", &format!("REF{number}"), "x${A}y");
    }
    refresh(&instance);
    assert_eq!(psid.status()["entries"], 14);
    infisical.put("/app", "R", "${prod.locked.L1}");
    infisical.put("/app", "A", "new");
    infisical.clear_log();
    infisical.faults(
        &json!([{"match": {"route": "get"}, "fault": fault::too_many(1), "after": 5, "times": 1}]),
    );
    let output = failing_refresh(&instance);
    assert!(output.contains("429") && output.contains("listed later"), "{output}");
    assert_eq!((lists(&infisical), gets(&infisical)), (2, 6));
    // The refresh that reads R reports it: either of the two.
    let mut outputs = vec![output];
    eventually("the rest of the source", || {
        let outcome = instance.driver(&["cache", "refresh"]).run();
        outputs.push(outcome.stdout_text() + &outcome.stderr);
        (gets(&infisical) == 13).then_some(())
    });
    let named =
        outputs.iter().filter(|output| output.contains("/app/R: ") && output.contains("403"));
    assert_eq!(named.count(), 1, "{outputs:?}");
    // OWN, the ten and R: twelve by name, one of them twice.
    assert_eq!((lists(&infisical), gets(&infisical)), (2, 13));
    assert_eq!(psid.status()["entries"], 14);
    for number in 0..10 {
        let value = instance.driver(&["get", &format!("myapp--REF{number}")]).text();
        assert_eq!(value, "xnewy");
    }
}
