//! Files that psid may not read are neither missing nor damaged: psid reports them, answers 75,
//! changes nothing, and reads them once it may, without a restart.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use psi_harness::python_psi::{adopt, instance_in_an_outage, leave_in};
use psi_harness::{FakeInfisical, Instance, Psid, eventually, id, reference};

/// A user who is neither root nor the owner of root's files.
const PSI: u32 = 1234;

fn give(path: &Path, owner: u32) {
    let owner = format!("{owner}:{owner}");
    let given = Command::new("chown").args(["-hR", &owner]).arg(path).status().unwrap();
    assert!(given.success());
}

/// A registered reference, a literal and a deleted literal in an outage; the user owns all files.
fn filled() -> Instance {
    let mut infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    for (number, text) in [(2, "a literal"), (3, "deleted")] {
        instance.driver(&["store"]).id(id(number)).stdin(text).ok();
    }
    instance.driver(&["delete"]).id(id(3)).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    psid.await_generation_after(0);
    psid.terminate();
    infisical.kill();
    give(instance.directory(), PSI);
    instance
}

fn start(instance: &Instance) -> Psid {
    let (user, group) = (format!("--reuid={PSI}"), format!("--regid={PSI}"));
    instance.psid().through(&["setpriv", &user, &group, "--clear-groups"]).start()
}

/// Asserts that psid recovers without a restart.
fn heals(instance: &Instance, psid: &Psid) {
    eventually("what became readable to be read", || psid.degraded().is_empty().then_some(()));
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    assert!(instance.driver(&["restore"]).text().contains(&id(3)));
    assert_eq!(psid.status()["survives_outage"], true);
}

#[test]
fn unreadable_cache_is_kept_and_loaded_once_readable() {
    let instance = filled();
    let good = fs::read(instance.cache()).unwrap();
    // As after a restored backup.
    give(&instance.cache(), 0);
    let psid = start(&instance);
    let degraded = psid.degraded();
    assert!(degraded.contains("the cache cannot be read, which is tried again"), "{degraded}");
    let remedy = format!(
        "`chown -hR --reference={} {}`",
        instance.state().display(),
        instance.cache().display()
    );
    assert!(degraded.contains(&remedy), "{degraded}");
    instance.driver(&["lookup"]).id(id(1)).fails(75);
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    assert_eq!(psid.status()["survives_outage"], false);
    assert_eq!(fs::read(instance.cache()).unwrap(), good, "neither set aside nor overwritten");
    assert!(instance.set_aside().is_empty());
    give(&instance.cache(), PSI);
    heals(&instance, &psid);
}

/// Root once ran psid by hand when directories were not given to the owner of the state.
#[test]
fn unreadable_secrets_are_not_reported_missing() {
    let instance = filled();
    let secrets = instance.state().join("secrets");
    give(&secrets, 0);
    let psid = start(&instance);
    let degraded = psid.degraded();
    assert!(
        degraded.contains("the registered secrets cannot be read, which is tried again"),
        "{degraded}"
    );
    assert!(
        degraded.contains(&format!("`chown -hR --reference={}", instance.state().display())),
        "{degraded}"
    );
    for call in [&["lookup"][..], &["delete"], &["list"]] {
        let line = instance.driver(call).id(id(2)).fails(75);
        assert!(line.contains("Permission denied"), "{line}");
    }
    let line = instance.driver(&["store"]).id(id(4)).stdin("another").fails(75);
    assert!(line.contains("Permission denied") || line.contains("two of one name"), "{line}");
    give(&secrets, PSI);
    heals(&instance, &psid);
}

#[test]
fn unreadable_file_or_trash_affects_no_other_secret() {
    let instance = filled();
    let (file, trash) =
        (instance.state().join("secrets").join(id(2)), instance.state().join("deleted"));
    give(&file, 0);
    give(&trash, 0);
    let psid = start(&instance);
    let degraded = psid.degraded();
    assert!(
        degraded.contains(&format!("secret {} cannot be read, which is tried again", id(2))),
        "{degraded}"
    );
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    let line = instance.driver(&["lookup"]).id(id(2)).fails(75);
    assert!(line.contains("Permission denied"), "{line}");
    // Whether there is something to restore is not known.
    let line = instance.driver(&["restore"]).fails(75);
    assert!(line.contains("Permission denied"), "{line}");
    give(&file, PSI);
    give(&trash, PSI);
    heals(&instance, &psid);
}

#[test]
fn files_made_by_root_belong_to_the_state_owner() {
    let instance = instance_in_an_outage();
    fs::create_dir(instance.state()).unwrap();
    chown(instance.state(), Some(PSI), Some(PSI)).unwrap();
    let old = instance.directory().join("old");
    leave_in(&old, "cache-tpm.enc");
    adopt(&instance, &[old.to_str().unwrap()]).ok();
    let mut seen = 0;
    let mut directories = vec![instance.state()];
    while let Some(directory) = directories.pop() {
        for file in fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            assert_eq!((about.uid(), about.gid()), (PSI, PSI), "{}", path.display());
            assert_eq!(about.permissions().mode() & 0o077, 0, "{}", path.display());
            seen += 1;
            if about.is_dir() {
                directories.push(path);
            }
        }
    }
    assert_eq!(seen, 1 + 1 + 8, "the cache, the directory, and what is in it");
}
