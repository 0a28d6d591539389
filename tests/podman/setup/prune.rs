//! Removals by setup, and their conditions.

use serde_json::{Value, json};

use psi_harness::{Host, workload};

fn names(host: &Host) -> Vec<String> {
    host.ids().into_keys().collect()
}

#[test]
fn unlisted_secret_is_removed_by_prune_only() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2", "GOES": "3"}));
    host.set_up(&[]);
    host.podman.create("myapp--by_hand", "a literal");
    host.infisical.remove("/myapp", "GOES");
    let output = host.setup(&[]).text();
    assert!(
        output.contains("myapp--GOES no longer listed, but kept; --prune removes them"),
        "{output}"
    );
    assert!(host.drop_in("myapp").contains("myapp--GOES"));
    let report = host.dry_run(1);
    let drift = &report["drift"];
    assert_eq!((&drift[0]["name"], &drift[0]["at"]), (&json!("myapp--GOES"), &json!("provider")));
    let report = host.set_up(&["--prune"]);
    assert_eq!(
        (&report["removed"], &report["podman_writes"]),
        (&json!(["myapp--GOES"]), &json!(1))
    );
    assert_eq!(names(&host), ["myapp--A", "myapp--B", "myapp--by_hand"]);
    assert!(!host.drop_in("myapp").contains("myapp--GOES"));
    host.dry_run(0);
}

/// PR #37 of the Python PSI: a listing that lacked most secrets removed the lines from the drop-in.
#[test]
fn pr37_suspicious_listing_loses_nothing_even_with_prune() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2", "C": "3"}));
    host.set_up(&[]);
    let (text, ids) = (host.drop_in("myapp"), host.ids());
    for key in ["A", "B", "C"] {
        host.infisical.remove("/myapp", key);
    }
    let outcome = host.setup(&["--prune"]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 75, "{output}{}", outcome.stderr);
    assert!(output.contains("myproject:/myapp no longer has 3 of its values"), "{output}");
    assert_eq!((host.drop_in("myapp"), host.ids()), (text.clone(), ids.clone()));
    // An admin confirms the removal to psid, not to setup.
    host.driver(&["cache", "refresh", "--accept-removals"]).ok();
    for _ in 0..2 {
        let outcome = host.setup(&["--prune"]).run();
        let printed = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(outcome.code, 1, "{printed}{}", outcome.stderr);
        let why = "3 of the 3 secrets of infisical path=/myapp project=myproject are gone at once";
        assert!(printed.contains(why) && outcome.stderr.contains("--accept-removals"), "{printed}");
        assert_eq!((host.drop_in("myapp"), host.ids()), (text.clone(), ids.clone()));
    }
    // Nor does a listing that fails.
    host.infisical.permit(&json!([]));
    let outcome = host.setup(&["--prune"]).run();
    assert_eq!(outcome.code, 75, "{}", outcome.stderr);
    assert_eq!(names(&host).len(), 3);
    assert!(!outcome_text(&outcome).contains("--prune removes"));
    let outcome = host.setup(&["--dry-run"]).run();
    let output = outcome_text(&outcome);
    assert!(output.contains("3 unknown") && !output.contains("no longer lists it"), "{output}");
}

fn outcome_text(outcome: &psi_harness::Outcome) -> String {
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

#[test]
fn accept_removals_prunes_an_emptied_directory() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2"}));
    host.set_up(&[]);
    for key in ["A", "B"] {
        host.infisical.remove("/myapp", key);
    }
    host.driver(&["cache", "refresh", "--accept-removals"]).ok();
    let report = host.set_up(&["--prune", "--accept-removals"]);
    assert_eq!(report["removed"], json!(["myapp--A", "myapp--B"]));
    assert!(names(&host).is_empty());
}

/// An interrupted `--replace` leaves two secrets; podman resolves the name to one of them.
#[test]
fn two_secrets_of_one_name_are_reported_and_kept() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2"}));
    host.set_up(&[]);
    let record = host.podman.secrets_directory().join("secrets.json");
    let mut known: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    let (a, b) = (host.ids()["myapp--A"].clone(), host.ids()["myapp--B"].clone());
    known["secrets"][&b]["name"] = json!("myapp--A");
    known["idToName"][&b] = json!("myapp--A");
    known["nameToID"].as_object_mut().unwrap().remove("myapp--B");
    std::fs::write(&record, known.to_string()).unwrap();
    let mut ids = [a, b];
    ids.sort();
    let command = format!("podman secret rm {}", ids.join(" "));
    let outcome = host.setup(&["--prune"]).run();
    let output = outcome_text(&outcome);
    assert_eq!(outcome.code, 65, "{output}");
    assert!(
        output.contains("2 secrets with the name myapp--A") && output.contains(&command),
        "{output}"
    );
    // Podman no longer finds the remaining one by name.
    host.podman.ok(&["secret", "rm", &ids[0]]);
    let outcome = host.setup(&[]).run();
    let printed = outcome_text(&outcome);
    let command = format!("podman secret rm {}", ids[1]);
    assert!(outcome.code == 65 && printed.contains(&command), "{printed}");
    // The advised command works.
    host.podman.ok(&["secret", "rm", &ids[1]]);
    host.set_up(&[]);
    assert_eq!(names(&host), ["myapp--A", "myapp--B"]);
    assert_eq!((host.lookup("myapp--A"), host.lookup("myapp--B")), ("1".into(), "2".into()));
}

/// A container resolves its variables again at each exec and health check.
#[test]
fn secret_used_by_a_container_is_kept() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2", "GOES": "3"}));
    host.set_up(&[]);
    let secret = "--secret=myapp--GOES,type=env,target=GOES";
    host.podman.ok(&["run", "-d", "--name=app", secret, "localhost/bb:1", "sleep", "1000"]);
    host.infisical.remove("/myapp", "GOES");
    let outcome = host.setup(&["--json", "--prune"]).run();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let why = report["kept"]["myapp--GOES"].as_str().unwrap();
    assert!(why.contains("container app uses it"), "{report}");
    assert!(!host.drop_in("myapp").contains("GOES"), "the next container does without");
    host.podman.ok(&["rm", "-f", "-t", "0", "app"]);
    assert_eq!(host.set_up(&["--prune"])["removed"], json!(["myapp--GOES"]));
}

#[test]
fn removed_workload_is_pruned() {
    let both = workload("one", &[("/myapp", false)]) + &workload("two", &[("/myapp", false)]);
    let mut host = Host::of(&json!({"/myapp": {"A": "1"}}), &both);
    host.set_up(&[]);
    host.reconfigure(&workload("one", &[("/myapp", false)]));
    let report = host.set_up(&[]);
    assert_eq!(report["podman_writes"], 0);
    assert_eq!(names(&host), ["one--A", "two--A"]);
    let drift = host.dry_run(1)["drift"].clone();
    let at = drift.as_array().unwrap().iter().map(|drift| drift["at"].clone());
    assert_eq!(at.collect::<Value>(), json!(["config", "drop-in"]), "{drift}");
    host.set_up(&["--prune"]);
    assert_eq!(names(&host), ["one--A"]);
    assert!(!host.drop_in_path("two").parent().unwrap().exists());
    host.dry_run(0);
}
