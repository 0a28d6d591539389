//! From the Python PSI to psi in the middle of an outage, including podman's secrets, as
//! migrating.md describes it.

use std::fs;

use psi_harness::Podman;
use psi_harness::python_psi::{adopt, cached, instance_in_an_outage, leave_in};

/// Podman keeps in each secret the commands of the driver that created it, so each is created again
/// from the migrated mapping; its value was cached under the old id.
#[test]
fn recreated_secrets_are_served_from_the_migrated_cache() {
    let instance = instance_in_an_outage();
    let state = instance.state();
    leave_in(&state, "cache-tpm.enc");
    let podman = Podman::of(&instance);
    let at = state.join("$SECRET_ID").display().to_string();
    let old_driver =
        format!("store=cat >{at},lookup=cat {at},delete=rm {at},list=ls {}", state.display());
    let mut values = Vec::new();
    for (number, (id, value)) in cached().into_iter().enumerate() {
        let name = format!("app--{number}");
        let args = ["secret", "create", "--driver=shell", "--driver-opts", &old_driver, &name, "-"];
        // Under another id than the fixture's: only the mapping counts.
        let mapping = fs::read(state.join(&id)).unwrap();
        fs::remove_file(state.join(&id)).unwrap();
        assert_eq!(podman.run(&args, mapping).code, 0);
        values.push((name, value));
    }
    adopt(&instance, &[&state.display().to_string()]).ok();
    let psid = instance.start();
    assert_eq!(psid.degraded(), "");
    let replaces = podman.knows(&["secret", "create"], "--replace");
    for line in podman.ok(&["secret", "ls", "--format", "{{.ID}} {{.Name}}"]).lines() {
        let (id, name) = line.split_once(' ').unwrap();
        let mapping = state.join("secrets").join(id).display().to_string();
        if replaces {
            podman.ok(&["secret", "create", "--replace", name, &mapping]);
        } else {
            podman.ok(&["secret", "rm", name]);
            podman.ok(&["secret", "create", name, &mapping]);
        }
        assert!(podman.driver_options(name)["lookup"].ends_with("psi-driver lookup"), "{name}");
    }
    let secrets = values.iter().flat_map(|(name, _)| ["--secret", name.as_str()]);
    let found = podman.container(&secrets.collect::<Vec<_>>(), "cp /run/secrets/* /out");
    for (name, value) in &values {
        assert_eq!(&found[name], value, "{name}");
    }
}
