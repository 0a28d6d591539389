//! `psictl setup --provider NAME`.

use serde_json::json;

use psi_harness::{Host, workload};

/// The workloads of another provider, and drop-ins of former workloads, are left as they are.
#[test]
fn setup_of_a_provider_leaves_other_workloads() {
    let mut host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&["--provider", "infisical"]);
    assert_eq!(host.ids().keys().collect::<Vec<_>>(), ["myapp--A"]);
    let line = host.setup(&["--provider", "pkcs11"]).fails(65);
    let expected = "no workload of the config has the provider pkcs11; they have infisical";
    assert!(line.contains(expected), "{line}");
    // The workload goes from the config; its drop-in may be of any provider.
    host.reconfigure(&workload("other", &[("/myapp", false)]));
    host.set_up(&["--provider", "infisical", "--prune"]);
    assert!(host.drop_in_path("myapp").exists());
    assert_eq!(host.ids().keys().collect::<Vec<_>>(), ["myapp--A", "other--A"]);
}
