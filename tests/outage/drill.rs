//! Drills: simulated outages.

use std::process::Stdio;

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, Process, Psid, Signal, eventually, id, reference};

/// One cached and one uncached secret.
fn one_of_two_is_cached() -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}, "/other": {"B": "2"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    for (number, path, key) in [(1, "/myapp", "A"), (2, "/other", "B")] {
        instance.driver(&["store"]).id(id(number)).stdin(reference(path, key)).ok();
    }
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    infisical.clear_log();
    (infisical, instance, psid)
}

/// Starts a drill; it ends with its process.
fn begin(instance: &Instance, psid: &Psid, span: &str) -> Process {
    let mut command = instance.driver(&["drill", "--for", span]).command();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let drill = Process::start(command);
    eventually("the drill to begin", || (!psid.status()["drill_until_ms"].is_null()).then_some(()));
    drill
}

fn is_over(psid: &Psid) -> Option<()> {
    psid.status()["drill_until_ms"].is_null().then_some(())
}

#[test]
fn drill_reports_what_an_outage_costs_without_requests() {
    let (infisical, instance, psid) = one_of_two_is_cached();
    let drill = instance.driver(&["drill", "--for", "2s", "--json"]);
    let outcome = std::thread::scope(|scope| {
        let drill = scope.spawn(|| drill.run());
        eventually("the drill to begin", || {
            (!psid.status()["drill_until_ms"].is_null()).then_some(())
        });
        // As in an outage: cached values are served from RAM, others fail.
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
        let line = instance.driver(&["lookup"]).id(id(2)).fails(75);
        assert!(line.contains("infisical is out: a drill treats it as out"), "{line}");
        drill.join().unwrap()
    });
    assert_eq!(outcome.code, 75, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("1 of 2 registered secrets would fail in an outage"));
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(
        (&report["registered"], &report["would_fail"], &report["lookups"]),
        (&json!(2), &json!([id(2)]), &json!(2))
    );
    let failed = &report["failed"][0]["secret"];
    assert!(failed.as_str().unwrap().starts_with(&format!("{} (infisical ", id(2))), "{failed}");
    assert!(infisical.log().is_empty(), "a drill makes no request");
    // The drill has ended and caused no outage.
    let status = psid.status();
    assert_eq!((is_over(&psid), &status["providers"][0]["up"]), (Some(()), &json!(true)));
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "2");
    let text = instance.driver(&["drill", "--for", "1s"]).text();
    assert!(text.contains("2 secrets; with no provider reachable, all would be served"), "{text}");
    assert!(text.contains("end        0 lookups, 0 failed"), "{text}");
}

#[test]
fn drill_ends_with_its_client() {
    let (_infisical, instance, psid) = one_of_two_is_cached();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut drill = begin(&instance, &psid, "1h");
        let text = instance.driver(&["cache", "status"]).report();
        assert!(
            text.contains("DRILL      providers are treated as unreachable; it ends in "),
            "{text}"
        );
        drill.signal(signal);
        eventually("the drill to end", || is_over(&psid));
        drill.wait();
    }
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "2");
    psid.await_log("the drill ended early, its caller disconnected");
}

/// The daemon ends the drill at its deadline: a stopped client does not prolong it.
#[test]
fn drill_ends_in_time_without_its_client() {
    let (_infisical, instance, psid) = one_of_two_is_cached();
    let mut drill = begin(&instance, &psid, "2s");
    drill.signal(Signal::SIGSTOP);
    eventually("the drill to end", || is_over(&psid));
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "2");
    drill.kill();
}

#[test]
fn drill_refuses_a_second_drill_and_extreme_lengths() {
    let (_infisical, instance, psid) = one_of_two_is_cached();
    let mut drill = begin(&instance, &psid, "1h");
    let line = instance.driver(&["drill", "--for", "1s"]).fails(65);
    assert!(line.contains("another drill runs for "), "{line}");
    drill.kill();
    eventually("the drill to end", || is_over(&psid));
    for span in ["10ms", "2h"] {
        let line = instance.driver(&["drill", "--for", span]).fails(65);
        assert!(line.contains("a drill takes 1 s to 1 h"), "{line}");
    }
    assert_eq!(instance.driver(&["drill", "--for", "soon"]).run().code, 2);
}
