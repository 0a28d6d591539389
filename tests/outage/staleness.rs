//! The age limit of values that are served in an outage.

use std::time::Duration;

use serde_json::json;

use psi_harness::{Clock, Config, FakeInfisical, Instance, Psid, eventually, id, reference};

const TOO_OLD: &str =
    "the cached value is older than max_stale; wait for infisical, or raise max_stale";

const HOUR: Duration = Duration::from_secs(3_600);

/// A config by which a value is fresh for an hour and servable for three.
fn config(infisical: &FakeInfisical) -> Config {
    Config::of(infisical).cache("refresh_interval = \"1h\"\nmax_stale = \"3h\"")
}

/// A psid with a value that is older than `max_stale`, in an outage.
struct TooOld {
    infisical: FakeInfisical,
    instance: Instance,
    clock: Clock,
    psid: Psid,
}

fn too_old(is_served: bool) -> TooOld {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&config(&infisical));
    let clock = Clock::of(&instance);
    let psid = clock.on(instance.psid()).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    if is_served {
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    } else {
        instance.driver(&["cache", "refresh"]).ok();
    }
    infisical.fault(&json!({"kind": "refuse"}));
    clock.advance(2 * HOUR);
    assert_eq!(psid.status()["survives_outage"], true);
    clock.advance(HOUR + Duration::from_secs(60));
    assert_eq!(psid.status()["survives_outage"], false);
    TooOld { infisical, instance, clock, psid }
}

#[test]
fn value_beyond_max_stale_is_refused_and_kept() {
    let TooOld { infisical, instance, clock: _clock, mut psid } = too_old(false);
    let line = instance.driver(&["lookup"]).id(id(1)).fails(75);
    assert!(line.contains("infisical is out: ") && line.contains(TOO_OLD), "{line}");
    let status = psid.status();
    assert_eq!(
        (&status["would_fail_now"], &status["past_max_stale"]),
        (&json!([id(1)]), &json!(0))
    );
    // The value is refused, not removed: an admin may raise the limit.
    instance.configure(&Config::of(&infisical).short_lived());
    psid.reload();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
}

/// Podman resolves env secrets at each exec and health check, and a failed lookup can kill a
/// healthy container. So a value that a running container may have is served; others are not.
#[test]
fn value_beyond_max_stale_is_served_until_reboot_if_served_before() {
    let TooOld { infisical: _infisical, instance, clock, psid } = too_old(true);
    for _ in 0..5 {
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    }
    let status = psid.status();
    assert_eq!(
        (&status["past_max_stale"], &status["would_fail_now"], &status["would_fail"]),
        (&json!(1), &json!([]), &json!([id(1)]))
    );
    assert!(psid.degraded().contains("older than max_stale"));
    let log = psid.terminate();
    let expected = "older than max_stale, and served all the same: it was served since the boot";
    assert_eq!(log.matches(expected).count(), 1, "{log}");
    // A restart of psid ends no container.
    for end in [|psid: Psid| _ = psid.terminate(), Psid::crash] {
        let psid = clock.on(instance.psid()).start();
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
        end(psid);
    }
    // A reboot ends all containers and empties /run.
    std::fs::remove_file(instance.run_directory().join("boot")).unwrap();
    let _psid = clock.on(instance.psid()).start();
    let line = instance.driver(&["lookup"]).id(id(1)).fails(75);
    assert!(line.contains(TOO_OLD), "{line}");
}

#[test]
fn stale_values_are_served_without_max_stale() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).short_lived());
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    infisical.fault(&json!({"kind": "refuse"}));
    eventually("the refresh to fail", || {
        let last = psid.status()["last_refresh"].clone();
        (last["failed"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(psid.status()["survives_outage"], true);
}

/// The age is counted from the fetch, not from the write, the start or a lookup.
#[test]
fn restart_and_lookup_keep_the_fetch_time() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    let fetched = psid.status()["oldest_fetch_ms"].as_u64().unwrap();
    psid.terminate();
    infisical.fault(&json!({"kind": "refuse"}));
    let psid = instance.start();
    instance.driver(&["lookup"]).id(id(1)).ok();
    instance.driver(&["cache", "refresh"]).run();
    assert_eq!(psid.status()["oldest_fetch_ms"], fetched);
}
