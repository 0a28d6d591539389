//! Sources with a common key, while one of them does not answer.

use serde_json::json;

use psi_harness::seed;
use psi_harness::{Host, workload};

/// The unavailable source may shadow the values of the others, and a registration outlives the
/// outage.
#[test]
fn source_in_an_outage_keeps_its_secrets() {
    let mut host = Host::of(
        &json!({"/common": {"A": "common", "B": "common"}, "/myapp": {"B": "mine"}}),
        &workload("myapp", &[("/common", false), ("/myapp", false)]),
    );
    host.set_up(&[]);
    assert_eq!(host.lookup("myapp--B"), "mine");
    let (ids, text) = (host.ids(), host.drop_in("myapp"));
    // A cold cache, a directory that answers 404, and another one with a new key.
    let common = json!({"A": "common", "B": "common", "C": "common"});
    host.stop_psid();
    std::fs::remove_file(host.instance.cache()).unwrap();
    host.infisical.control("PUT", "/state", &seed(&json!({"/common": common})));
    host.start_psid();
    for _ in 0..2 {
        let outcome = host.setup(&["--prune"]).run();
        let output = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(outcome.code, 75, "{output}{}", outcome.stderr);
        assert!(output.contains("warning: myapp--B stays as it is"), "{output}");
        assert!(output.contains("warning: myapp--C is not registered"), "{output}");
        assert_eq!((host.ids(), host.drop_in("myapp")), (ids.clone(), text.clone()));
    }
    let whole = json!({"/common": common, "/myapp": {"B": "mine"}});
    host.infisical.control("PUT", "/state", &seed(&whole));
    let report = host.set_up(&[]);
    assert_eq!(
        (&report["podman_writes"], &report["psid_writes"]),
        (&json!(1), &json!(0)),
        "{report}"
    );
    assert_eq!(
        (host.lookup("myapp--B"), host.lookup("myapp--C")),
        ("mine".into(), "common".into())
    );
}
