//! Restarts in an outage: what was cached before is served afterwards.

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Psid, id, reference};

fn one_secret() -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"DB_HOST": "db.example"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "DB_HOST")).ok();
    (infisical, instance, psid)
}

fn lookup(instance: &Instance) -> String {
    instance.driver(&["lookup"]).id(id(1)).text()
}

/// The main purpose: after a reboot during an outage, the container starts.
#[test]
fn reboot_in_an_outage_serves_every_secret() {
    let (mut infisical, instance, psid) = one_secret();
    assert_eq!(lookup(&instance), "db.example");
    // psid persists a miss by itself within a moment.
    psid.await_generation_after(0);
    infisical.kill();
    psid.terminate();
    let psid = instance.start();
    assert_eq!(lookup(&instance), "db.example");
    let status = psid.status();
    assert_eq!((&status["survives_outage"], &status["degraded"]), (&json!(true), &json!([])));
    assert_eq!((&status["hits"], &status["misses"]), (&json!(1), &json!(0)));
    infisical.restart();
    assert_eq!(lookup(&instance), "db.example");
    assert!(infisical.log().is_empty(), "a cached secret makes no request");
}

#[test]
fn crash_after_the_write_loses_nothing() {
    let (mut infisical, instance, psid) = one_secret();
    assert_eq!(lookup(&instance), "db.example");
    psid.await_generation_after(0);
    infisical.kill();
    psid.crash();
    let _psid = instance.start();
    assert_eq!(lookup(&instance), "db.example");
}

/// Changes that are not written yet are written at a stop.
#[test]
fn sigterm_and_sigint_write_pending_changes() {
    let stop: [fn(Psid) -> String; 2] = [Psid::terminate, Psid::interrupt];
    for end in stop {
        let (mut infisical, instance, psid) = one_secret();
        // At once: the persister is still gathering changes.
        assert_eq!(lookup(&instance), "db.example");
        end(psid);
        infisical.kill();
        let _psid = instance.start();
        assert_eq!(lookup(&instance), "db.example");
    }
}

#[test]
fn invalidation_survives_a_restart() {
    let (mut infisical, instance, psid) = one_secret();
    lookup(&instance);
    instance.driver(&["cache", "invalidate", &id(1)]).ok();
    infisical.kill();
    psid.crash();
    let _psid = instance.start();
    let line = instance.driver(&["lookup"]).id(id(1)).fails(75);
    assert!(line.contains("is not cached"), "{line}");
}

/// The Python PSI keyed its cache by podman's id, which changes at each re-creation, and found
/// nothing in its first real outage (PRs #29, #32, #35, #36).
#[test]
fn secret_with_a_new_id_uses_the_same_entry() {
    let (mut infisical, instance, psid) = one_secret();
    lookup(&instance);
    instance.driver(&["delete"]).id(id(1)).ok();
    infisical.kill();
    instance.driver(&["store"]).id(id(2)).stdin(reference("/myapp", "DB_HOST")).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "db.example");
    assert_eq!(psid.status()["entries"], 1);
}

#[test]
fn status_lists_secrets_that_an_outage_would_cost() {
    let (infisical, instance, psid) = one_secret();
    let status = psid.status();
    assert_eq!(
        (&status["survives_outage"], &status["would_fail"]),
        (&json!(false), &json!([id(1)]))
    );
    let text = instance.driver(&["cache", "status"]).report();
    assert!(text.contains(&format!("would NOT serve {}", id(1))), "{text}");
    lookup(&instance);
    assert_eq!(psid.status()["survives_outage"], true);
    instance.configure(&Config::of(&infisical).without_backend());
    psid.terminate();
    let psid = instance.start();
    lookup(&instance);
    let status = psid.status();
    assert_eq!(
        (&status["survives_outage"], &status["would_fail_count"]),
        (&json!(false), &json!(1))
    );
}

/// A psid that starts with a fresh cache makes no request, so a fleet's restart does not load the
/// provider.
#[test]
fn restart_makes_no_request_for_fresh_entries() {
    let (infisical, instance, psid) = one_secret();
    lookup(&instance);
    psid.terminate();
    infisical.clear_log();
    for _ in 0..3 {
        let psid = instance.start();
        assert_eq!(lookup(&instance), "db.example");
        psid.terminate();
    }
    assert!(infisical.log().is_empty());
}

#[test]
fn values_follow_the_recovered_provider() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "old"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).short_lived());
    let _psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    assert_eq!(lookup(&instance), "old");
    infisical.fault(&json!({"kind": "refuse"}));
    infisical.put("/myapp", "A", "new");
    for _ in 0..3 {
        assert_eq!(lookup(&instance), "old");
    }
    infisical.heal();
    instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(lookup(&instance), "new");
}
