//! `setup --dry-run`: the differences, by name.

use serde_json::{Value, json};

use psi_harness::Host;

fn drift(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = report["drift"].as_array().unwrap().iter();
    all.map(|drift| (text(&drift["at"]), text(&drift["name"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(at, name)| ((*at).to_owned(), (*name).to_owned())).collect()
}

#[test]
fn dry_run_prints_the_plan_and_changes_nothing() {
    let host = Host::with_myapp(&json!({"A": "secret value", "B": "2"}));
    let outcome = host.setup(&["--dry-run"]).run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    let output = String::from_utf8(outcome.stdout).unwrap();
    for line in [
        "  + podman secret myapp--A, from myproject:/myapp\n",
        "  +Secret=myapp--A,type=env,target=A\n",
        "secrets of the shell driver: 0 managed, 0 stale options, 0 orphaned, 0 foreign\n",
        "  podman: myapp--B: myproject:/myapp has it, podman does not\n",
    ] {
        assert!(output.contains(line), "{line}{output}");
    }
    assert!(!output.contains("secret value"));
    assert!(host.ids().is_empty() && !host.drop_in_path("myapp").exists());
    host.set_up(&[]);
    let outcome = host.setup(&["--dry-run"]).run();
    let printed = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 0, "{printed}");
    assert_eq!(
        printed,
        "secrets of the shell driver: 2 managed, 0 stale options, 0 orphaned, 0 foreign\nno drift\n"
    );
}

/// PR #27 of the Python PSI: its dry run compared names with ids, and called 514 of 514 secrets
/// orphaned.
#[test]
fn pr27_secret_registered_by_id_is_no_orphan() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2"}));
    host.set_up(&[]);
    let report = host.dry_run(0);
    let ids = host.ids();
    assert_eq!(
        report["secrets"],
        json!([
            {"name": "myapp--A", "id": ids["myapp--A"], "class": "managed", "why": ""},
            {"name": "myapp--B", "id": ids["myapp--B"], "class": "managed", "why": ""},
        ])
    );
    assert_eq!((&report["clean"], &report["drift"]), (&json!(true), &json!([])));
}

#[test]
fn each_drifted_file_is_reported() {
    let mut host = Host::with_myapp(&json!({"A": "1", "B": "2", "C": "3", "D": "4", "E": "5"}));
    host.set_up(&[]);
    host.podman.ok(&["secret", "rm", "myapp--A"]);
    assert_eq!(drift(&host.dry_run(1)), pairs(&[("podman", "myapp--A")]));
    host.set_up(&[]);
    host.stop_psid();
    std::fs::remove_file(host.instance.state().join("secrets").join(&host.ids()["myapp--B"]))
        .unwrap();
    host.start_psid();
    assert_eq!(drift(&host.dry_run(1)), pairs(&[("psid", "myapp--B")]));
    host.set_up(&[]);
    host.infisical.remove("/myapp", "C");
    assert_eq!(drift(&host.dry_run(1)), pairs(&[("provider", "myapp--C")]));
    host.infisical.put("/myapp", "C", "3");
    let text = host.drop_in("myapp");
    std::fs::write(
        host.drop_in_path("myapp"),
        text.replace("Secret=myapp--D,type=env,target=D\n", ""),
    )
    .unwrap();
    assert_eq!(drift(&host.dry_run(1)), pairs(&[("drop-in", "myapp--D")]));
    std::fs::write(host.drop_in_path("myapp"), text.replace("After=psid.socket ", "After="))
        .unwrap();
    assert_eq!(drift(&host.dry_run(1)), pairs(&[("drop-in", "myapp")]));
    host.set_up(&[]);
    assert_eq!(host.drop_in("myapp"), text);
    // Without its key, psid does not write the cache, which would not survive a reboot.
    host.stop_psid();
    host.instance.take_key();
    host.start_psid();
    let report = host.dry_run(1);
    assert!(drift(&report).contains(&("cache".into(), "myapp--E".into())), "{report}");
}

/// PR #29 of the Python PSI: what was cached under one name was looked up under another, which the
/// first outage revealed. Each secret that a setup registers must resolve from the cache alone.
#[test]
fn pr29_what_was_set_up_is_served_in_an_outage_after_a_reboot() {
    let mut host = Host::with_myapp(&json!({"A": "1", "B": "2"}));
    host.set_up(&[]);
    assert_eq!(host.psid.as_ref().unwrap().status()["survives_outage"], true);
    host.infisical.kill();
    host.stop_psid();
    host.start_psid();
    for (key, value) in [("A", "1"), ("B", "2")] {
        assert_eq!(host.lookup(&format!("myapp--{key}")), value);
        let secret = format!("--secret=myapp--{key},type=env,target=V");
        host.podman.container(&[&secret], &format!("test \"$V\" = {value}"));
    }
    let status = host.psid.as_ref().unwrap().status();
    assert!(status["hits"].as_u64() >= Some(4) && status["misses"] == 0, "{status}");
}
