//! `psi-driver gc`

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use rustix::fs::{CWD, FlockOperation, fcntl_lock, mkfifoat};
use serde_json::json;

use crate::harness::{id, reference};
use crate::setup::host::Host;

#[test]
fn what_no_podman_knows_is_removed_and_can_be_brought_back() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let kept = host.ids()["myapp--A"].clone();
    // As a store that was reset, or a `rm --ignore` while psid was down, leaves it.
    host.world.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    host.world.driver(&["store"]).id(id(2)).stdin("a literal").ok();
    let told = host.driver(&["gc", "--dry-run", "--json"]).json();
    let ids: Vec<_> =
        told["orphans"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!((ids, &told["registered"]), (vec![json!(id(1)), json!(id(2))], &json!(3)));
    assert_eq!(host.world.driver(&["list"]).text().lines().count(), 3, "a dry run removes nothing");
    let told = host.driver(&["gc"]).text();
    assert!(told.contains(&format!("removed {}: infisical key=A", id(1))), "{told}");
    assert!(told.contains(&format!("removed {}: a literal", id(2))), "{told}");
    assert_eq!(host.world.driver(&["list"]).text(), format!("{kept}\n"));
    host.world.driver(&["restore", &id(2)]).ok();
    assert_eq!(host.world.driver(&["lookup"]).id(id(2)).text(), "a literal");
    assert_eq!(host.lookup("myapp--A"), "1");
}

/// Several podmans may use one psid.
#[test]
fn what_another_store_knows_stays() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let other = crate::podman::host::Podman::of(&host.world);
    let theirs = other.create("theirs", "a literal");
    let root = other.secrets_folder().parent().unwrap().display().to_string();
    assert_eq!(host.driver(&["gc", "--dry-run", "--json"]).json()["orphans"][0]["id"], theirs);
    let told = host.driver(&["gc", "--store", &root]).text();
    assert!(told.starts_with("nothing to remove\n") && told.contains(&root), "{told}");
    assert_eq!(host.world.driver(&["lookup"]).id(theirs).text(), "a literal");
}

/// A podman that knows nothing at all is more likely another podman than an empty one.
#[test]
fn a_podman_that_knows_none_of_it_removes_nothing_without_force() {
    let host = Host::with_myapp(&json!({}));
    for number in 1..4 {
        host.world.driver(&["store"]).id(id(number)).stdin("a literal").ok();
    }
    let line = host.driver(&["gc"]).fails(65);
    assert!(line.contains("podman knows none of the 3 secrets that psid has"), "{line}");
    assert_eq!(host.world.driver(&["list"]).text().lines().count(), 3);
    host.driver(&["gc", "--force"]).ok();
    assert_eq!(host.world.driver(&["list"]).text(), "");
    assert!(host.driver(&["gc"]).text().starts_with("nothing to remove\n"));
}

/// Podman holds no lock between its answers: secrets are made all the while, psi's and the file driver's.
#[test]
fn what_is_made_while_gc_looks_is_no_garbage() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let bin = host.world.folder().join("bin");
    fs::create_dir(&bin).unwrap();
    let path = std::env::var("PATH").unwrap();
    let clear = host.podman.secrets_folder().join("filedriver");
    // A podman beside which others make secrets, before and after each of its answers.
    let script = format!(
        "#!/bin/sh\nPATH='{path}'\n\
         made() {{ printf hunter2 | podman secret create --driver=file --driver-opts=path={clear} \"$1-file\" -\n\
         printf literal | podman secret create \"$1-psi\" -; }}\n\
         made \"before-$$\" >&2\npodman \"$@\"\ncode=$?\nmade \"after-$$\" >&2\nexit $code\n",
        clear = clear.display(),
    );
    fs::write(bin.join("podman"), script).unwrap();
    fs::set_permissions(bin.join("podman"), fs::Permissions::from_mode(0o755)).unwrap();
    let told = host.driver(&["gc"]).env("PATH", format!("{}:{path}", bin.display())).text();
    assert!(told.starts_with("nothing to remove\n"), "{told}");
    let made: Vec<String> = host.ids().into_keys().filter(|name| name.contains('-')).collect();
    assert!(made.iter().filter(|name| name.starts_with("after")).count() >= 4, "{made:?}");
    for name in made.iter().filter(|name| name.ends_with("-file")) {
        let found = host.podman.container(&[&format!("--secret={name}")], "cp /run/secrets/* /out");
        assert_eq!(found[name], b"hunter2", "{name}");
    }
    for name in made.iter().filter(|name| name.ends_with("-psi")) {
        assert_eq!(host.lookup(name), "literal", "{name}");
    }
}

/// What is in a home is its user's to choose, and gc is root.
#[test]
fn nothing_in_a_home_holds_gc_and_what_is_unknown_there_stays() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    host.world.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    host.world.driver(&["store"]).id(id(2)).stdin("theirs").ok();
    let home = host.world.folder().join("home");
    let secrets = home.join(".local/share/containers/storage/secrets");
    let (record, lock) = (secrets.join("secrets.json"), secrets.join("secrets.lock"));
    fs::create_dir_all(&secrets).unwrap();
    let passwd = host.world.folder().join("passwd");
    fs::write(&passwd, format!("root:x:0:0::/root:/bin/sh\na:x:1:1::{}:\n", home.display()))
        .unwrap();
    let script = format!("mount --bind {} /etc/passwd && exec \"$@\"", passwd.display());
    let script = format!("exec unshare --mount sh -c '{script}' sh \"$@\"");
    let gc = |args: &[&str]| host.driver(&[&["gc"], args].concat()).through_shell(&script);
    let known = json!({"secrets": {id(2): {}}}).to_string();
    let is_left_out = |why: &str| {
        let outcome = gc(&[]);
        let told = outcome.stderr;
        assert_eq!((outcome.code, outcome.stdout), (65, Vec::new()), "{told}");
        let line = format!("psi-driver: gc: the store {}", secrets.parent().unwrap().display());
        assert!(told.starts_with(&line) && told.contains(why), "{told}");
        assert_eq!(host.world.driver(&["list"]).text().lines().count(), 3, "{told}");
        fs::remove_file(&record).unwrap();
        fs::remove_file(&lock).unwrap();
    };

    fs::write(&lock, "").unwrap();
    mkfifoat(CWD, &record, 0o600.into()).unwrap();
    is_left_out("secrets.json is no file");
    fs::write(&lock, "").unwrap();
    symlink("/dev/zero", &record).unwrap();
    is_left_out("secrets.json: ");
    fs::write(&record, &known).unwrap();
    mkfifoat(CWD, &lock, 0o600.into()).unwrap();
    is_left_out("secrets.lock is no file");
    fs::write(&record, "{").unwrap();
    fs::write(&lock, "").unwrap();
    is_left_out("EOF while parsing");
    fs::write(&record, &known).unwrap();
    fs::write(&lock, "").unwrap();
    chown(&record, Some(1), None).unwrap();
    is_left_out("secrets.json is another user's");
    fs::write(&lock, "").unwrap();
    fs::File::create(&record).unwrap().set_len((64 << 20) + 1).unwrap();
    is_left_out("more than 64 MiB");
    fs::write(&record, &known).unwrap();
    let held = fs::File::create(&lock).unwrap();
    fcntl_lock(&held, FlockOperation::LockExclusive).unwrap();
    is_left_out("secrets.lock was held for 5 s");
    drop(held);

    // A link, unless the admin vouches for what is behind it.
    fs::write(&record, &known).unwrap();
    fs::write(&lock, "").unwrap();
    let local = home.join(".local");
    fs::rename(&local, home.join("elsewhere")).unwrap();
    symlink("elsewhere", &local).unwrap();
    let outcome = gc(&[]);
    assert_eq!(outcome.code, 65, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("there is a link in its path"), "{}", outcome.stderr);
    let root = secrets.parent().unwrap().to_str().unwrap();
    let outcome = gc(&["--store", root]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_eq!(host.world.driver(&["lookup"]).id(id(2)).text(), "theirs");
    host.world.driver(&["lookup"]).id(id(1)).fails(66);

    // Read as it is; and nothing is to be complained of where there is no orphan.
    fs::remove_file(&local).unwrap();
    fs::rename(home.join("elsewhere"), &local).unwrap();
    host.world.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    let outcome = gc(&[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_eq!(host.world.driver(&["lookup"]).id(id(2)).text(), "theirs");
    fs::write(&record, "{").unwrap();
    let outcome = gc(&["--force"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    host.world.driver(&["lookup"]).id(id(2)).fails(66);
    assert_eq!(gc(&[]).code, 0);
}
