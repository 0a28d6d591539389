//! `psictl secrets` on a host with podman: it shows podman's names.

use psi_harness::Host;
use serde_json::json;

#[test]
fn secrets_have_podmans_names_and_the_last_lookup_by_podman() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2"}));
    host.set_up(&[]);
    // Nobody reports this name but `secrets` itself.
    host.podman.create("by_hand", "a literal");
    assert_eq!(host.lookup("myapp--A"), "1");
    let all = host.driver(&["secrets", "--json"]).json();
    let names: Vec<&str> =
        all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["by_hand", "myapp--A", "myapp--B"]);
    assert_eq!(all[1]["workloads"], json!(["myapp"]));
    assert_eq!(all[1]["last_use"]["user"]["uid"], 0);
    assert!(all[0]["last_use"].is_null() && all[2]["last_use"].is_null());
    let text = host.driver(&["secrets", "myapp--A"]).text();
    assert!(text.lines().nth(1).unwrap().starts_with("myapp--A  reference  myapp"), "{text}");
    // The record of the setup, and the name in the record of a lookup.
    let log = host.psid.as_ref().unwrap().log();
    assert!(log.contains("event=\"setup\""), "{log}");
    assert!(log.contains("secret_name=\"myapp--A\" uid=0"), "{log}");
}
