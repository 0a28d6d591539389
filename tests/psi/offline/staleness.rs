//! How old a value may be that is served in place of an answer.

use serde_json::json;

use crate::harness::{Config, Double, World, eventually, id, reference};

#[test]
fn beyond_max_stale_a_value_is_refused_and_kept() {
    let double = Double::with(&json!({"/myapp": {"A": "1"}}));
    let world = World::of(&double);
    let config = Config::of(&double).short_lived();
    world.configure(&config.clone().cache("max_stale = \"2s\""));
    let mut psid = world.start();
    world.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    assert_eq!(world.driver(&["lookup"]).id(id(1)).text(), "1");
    double.fault(&json!({"kind": "refuse"}));
    let line = eventually("the value to be too old", || {
        let outcome = world.driver(&["lookup"]).id(id(1)).run();
        if outcome.code == 0 {
            assert_eq!(outcome.stdout, b"1");
            return None;
        }
        assert_eq!((outcome.code, outcome.stdout.len()), (75, 0), "{}", outcome.stderr);
        Some(outcome.stderr)
    });
    assert!(line.contains("infisical is out: "), "{line}");
    assert!(
        line.contains(
            "the cached value is older than max_stale; wait for infisical, or raise max_stale"
        ),
        "{line}"
    );
    assert_eq!(psid.status()["survives_outage"], false);
    // It is refused, not thrown away: the operator may decide otherwise.
    world.configure(&config);
    psid.reload();
    assert_eq!(world.driver(&["lookup"]).id(id(1)).text(), "1");
}

#[test]
fn without_max_stale_age_is_no_obstacle() {
    let double = Double::with(&json!({"/myapp": {"A": "1"}}));
    let world = World::of(&double);
    world.configure(&Config::of(&double).short_lived());
    let psid = world.start();
    world.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    world.driver(&["lookup"]).id(id(1)).ok();
    double.fault(&json!({"kind": "refuse"}));
    eventually("the refresh to fail", || {
        let last = psid.status()["last_refresh"].clone();
        (last["failed"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    assert_eq!(world.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(psid.status()["survives_outage"], true);
}

/// The age that counts is that of the fetch, not that of the file or of the process.
#[test]
fn a_restart_makes_no_value_younger() {
    let double = Double::with(&json!({"/myapp": {"A": "1"}}));
    let world = World::of(&double);
    let psid = world.start();
    world.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    world.driver(&["lookup"]).id(id(1)).ok();
    let fetched = psid.status()["oldest_fetch_ms"].as_u64().unwrap();
    psid.terminate();
    let psid = world.start();
    assert_eq!(psid.status()["oldest_fetch_ms"], fetched);
}
