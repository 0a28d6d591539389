//! A full or read-only disk: a tmpfs of the test's own.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use psi_harness::{FakeInfisical, Instance, Psid, eventually, id, reference};

/// A small file system in place of the state directory.
struct Disk(PathBuf);

impl Disk {
    fn mount(instance: &Instance) -> Self {
        let path = instance.state();
        fs::create_dir(&path).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=256k,mode=0700"))
            .unwrap_or_else(|error| panic!("mounting a tmpfs: {error}; run the tests as root"));
        Self(path)
    }

    fn read_only(&self, yes: bool) {
        let flags = if yes { MsFlags::MS_RDONLY } else { MsFlags::empty() } | MsFlags::MS_REMOUNT;
        mount(None::<&str>, &self.0, None::<&str>, flags, Some("size=256k")).unwrap();
    }

    /// Fills the disk.
    fn fill(&self) {
        use std::io::Write;
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        for size in [4096, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Frees the space.
    fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Detached, because psid may still run in it.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn on_a_disk() -> (FakeInfisical, Instance, Disk) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let disk = Disk::mount(&instance);
    (infisical, instance, disk)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "ballast")
        .collect();
    names.sort();
    names
}

/// The persister's degraded reason, once it has tried.
fn await_trouble(psid: &Psid, words: &str) -> String {
    eventually("the writer's trouble", || {
        let degraded = psid.degraded();
        degraded.contains(words).then_some(degraded)
    })
}

#[test]
fn full_disk_fails_no_lookup_and_refuses_a_store_whole() {
    let (_infisical, instance, disk) = on_a_disk();
    let psid = instance.start();
    let generation = instance.persist_reference(&psid);
    let before = fs::read(instance.cache()).unwrap();
    disk.fill();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    let degraded = await_trouble(&psid, "cannot be written");
    assert!(degraded.contains("No space left on device"), "{degraded}");
    assert!(degraded.contains("psid keeps trying"), "{degraded}");
    for (number, text) in [(2, "a literal".to_owned()), (3, reference("/myapp", "B"))] {
        let line = instance.driver(&["store"]).id(id(number)).stdin(&text).fails(75);
        assert!(line.contains("No space left on device"), "{line}");
        assert!(line.contains("; check the disk of psid's state directory"), "{line}");
    }
    assert_eq!(names(&instance.state().join("secrets")), [id(1)], "nothing half-written");
    assert_eq!(names(&instance.state()), ["cache.enc", "secrets"]);
    assert_eq!(fs::read(instance.cache()).unwrap(), before, "the last good one is whole");
    assert_eq!(instance.driver(&["list"]).text(), format!("{}\n", id(1)));
    assert_eq!(psid.status()["survives_outage"], false);
    disk.empty();
    // A change makes it try again at once.
    instance.driver(&["cache", "invalidate", &reference("/myapp", "A")]).ok();
    psid.await_generation_after(generation);
    assert_eq!(psid.degraded(), "");
    instance.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    psid.terminate();
    let _psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

#[test]
fn psid_starts_and_serves_with_a_full_disk() {
    let (_infisical, instance, disk) = on_a_disk();
    disk.fill();
    let psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    await_trouble(&psid, "No space left on device");
    instance.driver(&["store"]).id(id(1)).stdin("a literal").fails(75);
    disk.empty();
    instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    assert_eq!(names(&instance.state().join("secrets")), [id(1)]);
}

#[test]
fn read_only_disk_fails_no_lookup_and_refuses_a_store() {
    let (mut infisical, instance, disk) = on_a_disk();
    let psid = instance.start();
    instance.persist_reference(&psid);
    psid.terminate();
    disk.read_only(true);
    let psid = instance.start();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    await_trouble(&psid, "Read-only file system");
    let line = instance.driver(&["store"]).id(id(1)).stdin("x").run();
    assert_eq!(line.code, 65, "an id that is there already, with other bytes: {}", line.stderr);
    let line = instance.driver(&["store"]).id(id(2)).stdin("a literal").fails(75);
    assert!(line.contains("Read-only file system"), "{line}");
    // As `podman secret create --replace`: both calls fail.
    let line = instance.driver(&["delete"]).id(id(1)).fails(75);
    assert!(line.contains("Read-only file system"), "{line}");
    assert!(line.contains(&format!("`psictl delete {} --force`", id(1))), "{line}");
    let line = instance.driver(&["store"]).id(id(2)).stdin("a literal").fails(75);
    assert!(line.contains("podman would keep two of one name"), "{line}");
    assert_eq!(
        instance.driver(&["list"]).text(),
        format!("{}\n", id(1)),
        "podman keeps it as well"
    );
    disk.read_only(false);
    eventually("stores to be taken again", || {
        let stored = instance.driver(&["store"]).id(id(2)).stdin("a literal").run();
        (stored.code == 0).then_some(())
    });
    psid.terminate();
    infisical.kill();
    let _psid = instance.start();
    assert_eq!(
        instance.driver(&["get", &reference("/myapp", "B")]).text(),
        "2",
        "written at the end"
    );
}

/// A bad cache on a read-only disk can be neither used nor set aside.
#[test]
fn bad_cache_that_cannot_be_quarantined_is_kept_and_reported() {
    let (_infisical, instance, disk) = on_a_disk();
    fs::write(instance.cache(), "no cache").unwrap();
    disk.read_only(true);
    let psid = instance.start();
    let degraded = psid.degraded();
    assert!(degraded.contains("it cannot be set aside, which is tried again"), "{degraded}");
    assert!(degraded.contains("Read-only file system"), "{degraded}");
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    // A file that could not be set aside is not overwritten, even with space.
    disk.read_only(false);
    instance.driver(&["get", &reference("/myapp", "B")]).ok();
    psid.terminate();
    let kept = fs::read_to_string(instance.cache()).unwrap_or_default() == "no cache"
        || instance.set_aside().iter().any(|path| fs::read_to_string(path).unwrap() == "no cache");
    assert!(kept, "the bad file is gone");
}

#[test]
fn missing_state_directory_is_reported_and_psid_serves() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    fs::write(instance.state(), "a file in its place").unwrap();
    let psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
    let degraded = psid.degraded();
    assert!(
        degraded.contains("the state directory")
            && degraded.contains("a restart may lose what it stores"),
        "{degraded}"
    );
    instance.driver(&["store"]).id(id(1)).stdin("a literal").fails(75);
    assert_eq!(fs::read_to_string(instance.state()).unwrap(), "a file in its place");
}
