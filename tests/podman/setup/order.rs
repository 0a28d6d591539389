//! Interrupted and concurrent setups.

use serde_json::json;

use psi_harness::Host;

/// Two setups wait for each other, and the second one finds nothing to do.
#[test]
fn concurrent_setups_run_one_after_the_other() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2", "C": "3", "D": "4"}));
    let writes: Vec<u64> = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| host.set_up(&[])));
        both.map(|one| one.join().unwrap()["podman_writes"].as_u64().unwrap()).into()
    });
    assert_eq!(writes.iter().sum::<u64>(), 4, "{writes:?}");
    assert_eq!(host.ids().len(), 4);
}

/// A secret that podman refuses does not affect others, and is in no drop-in.
#[test]
fn secret_refused_by_podman_is_reported_and_not_in_the_drop_in() {
    let long = "K".repeat(240);
    let host = Host::with_myapp(&json!({"A": "1", long.as_str(): "2", "Z": "3"}));
    let outcome = host.setup(&[]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    // Podman before 4.6 accepts 64 characters.
    let refused = !host.ids().contains_key(&format!("myapp--{long}"));
    assert_eq!(outcome.code, if refused { 65 } else { 0 }, "{output}");
    assert_eq!(output.contains(&format!("error: myapp--{long}: podman: ")), refused, "{output}");
    assert_eq!(host.drop_in("myapp").contains(&long), !refused);
    assert!(host.ids().contains_key("myapp--A") && host.ids().contains_key("myapp--Z"));
}
