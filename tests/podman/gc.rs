//! `psictl gc`

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use psi_harness::{Host, lock_as_podman};
use psi_harness::{id, reference};

/// Registers ids as podman would, and lets psid see them in this host's store.
fn register_and_note(host: &Host, ids: &[(u32, &str)]) {
    for (number, text) in ids {
        host.instance.driver(&["store"]).id(id(*number)).stdin(text).ok();
    }
    let record = host.podman.secrets_directory().join("secrets.json");
    let before = fs::read_to_string(&record).unwrap();
    let mut known: Value = serde_json::from_str(&before).unwrap();
    for (number, _) in ids {
        let secret = json!({"name": format!("n{number}"), "id": id(*number), "driver": "shell",
            "driverOptions": {"lookup": "exec psi"}, "createdAt": "2026-01-01T00:00:00Z"});
        known["secrets"][id(*number)] = secret;
        known["nameToID"][format!("n{number}")] = json!(id(*number));
        known["idToName"][id(*number)] = json!(format!("n{number}"));
    }
    fs::write(&record, known.to_string()).unwrap();
    host.driver(&["gc"]).run();
    fs::write(&record, before).unwrap();
}

fn registered(host: &Host) -> usize {
    host.instance.driver(&["list"]).text().lines().count()
}

#[test]
fn gc_removes_secrets_unknown_to_their_store_restorably() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2", "C": "3"}));
    host.set_up(&[]);
    // The result of a `rm --ignore` while psid was down.
    register_and_note(&host, &[(1, &reference("/myapp", "A")), (2, "a literal")]);
    let report = host.driver(&["gc", "--dry-run", "--json"]).json();
    let ids: Vec<_> =
        report["orphans"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!((ids, &report["registered"]), (vec![json!(id(1)), json!(id(2))], &json!(5)));
    assert_eq!(registered(&host), 5, "a dry run removes nothing");
    let output = host.driver(&["gc"]).text();
    assert!(output.contains(&format!("removed {} (n1): infisical key=A", id(1))), "{output}");
    assert!(output.contains(&format!("removed {} (n2): a literal", id(2))), "{output}");
    assert_eq!(registered(&host), 3);
    let listed = host.instance.driver(&["restore"]).text();
    assert!(
        listed.lines().any(|line| line.starts_with(&id(2)) && line.ends_with(": n2")),
        "{listed}"
    );
    let printed = host.driver(&["restore", "--all"]).text();
    assert!(
        printed.contains(&format!("restored {}: n2; to create it in podman again: ", id(2))),
        "{printed}"
    );
    assert_eq!(host.instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    assert_eq!(host.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(host.lookup("myapp--A"), "1");
    let output = host.driver(&["restore", "--all"]).text();
    assert!(output.starts_with("nothing was deleted"), "{output}");
}

/// A registration that no known podman store had may belong to an unknown store.
#[test]
fn gc_keeps_secrets_of_unknown_stores_without_force() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    host.instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    for _ in 0..2 {
        let outcome = host.driver(&["gc"]).run();
        let output = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(outcome.code, 1, "{output}{}", outcome.stderr);
        let line =
            format!("kept {}: a literal that only psid has; it is not known which store", id(1));
        assert!(output.contains(&line) && output.contains("nothing to remove"), "{output}");
        assert_eq!(registered(&host), 2);
    }
    host.driver(&["gc", "--force"]).ok();
    assert_eq!(registered(&host), 1);
}

/// Several podmans may use one psid: another `CONTAINERS_STORAGE_CONF`, or a user with another
/// graph root.
#[test]
fn gc_keeps_secrets_of_other_stores() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let other = psi_harness::Podman::of(&host.instance);
    let theirs = ["one", "two", "three"].map(|name| other.create(name, "a literal"));
    let root = other.secrets_directory().parent().unwrap().display().to_string();
    // The store is still unknown, so nothing is proven.
    assert_eq!(host.driver(&["gc"]).run().code, 1);
    assert_eq!(registered(&host), 4);
    let output = host.driver(&["gc", "--store", &root]).text();
    assert!(output.starts_with("nothing to remove\n") && output.contains(&root), "{output}");
    // From now on psid knows the store.
    let printed = host.driver(&["gc"]).text();
    assert!(printed.starts_with("nothing to remove\n") && printed.contains(&root), "{printed}");
    let record = other.secrets_directory().join("secrets.json");
    let mut known: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    known["secrets"].as_object_mut().unwrap().remove(&theirs[0]);
    fs::write(&record, known.to_string()).unwrap();
    let output = host.driver(&["gc"]).text();
    assert!(output.contains(&format!("removed {} (one)", theirs[0])), "{output}");
    assert_eq!(host.instance.driver(&["lookup"]).id(&theirs[1]).text(), "a literal");
    // The store's disk is unmounted and may return.
    fs::rename(&root, format!("{root}.away")).unwrap();
    let outcome = host.driver(&["gc"]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 1, "{output}");
    assert!(output.contains(&format!("not read: {root}: it has no record of secrets")), "{output}");
    assert_eq!(registered(&host), 3);
    fs::rename(format!("{root}.away"), &root).unwrap();
}

/// A store that became empty may have been reset, restored or not mounted.
#[test]
fn gc_keeps_everything_for_an_emptied_store() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2", "C": "3", "D": "4"}));
    host.set_up(&[]);
    host.podman.create("by-hand", "a literal");
    host.driver(&["gc"]).ok();
    let record = host.podman.secrets_directory().join("secrets.json");
    let whole = fs::read_to_string(&record).unwrap();
    let none = json!({"secrets": {}, "nameToID": {}, "idToName": {}}).to_string();
    let keeps_all = |args: &[&str]| {
        let outcome = host.driver(&[&["gc"], args].concat()).run();
        let output = String::from_utf8(outcome.stdout).unwrap() + &outcome.stderr;
        assert_ne!(outcome.code, 0, "{output}");
        assert_eq!(registered(&host), 5, "{output}");
        output
    };
    for args in [&[][..], &["--accept-removals"], &["--remove-plaintext"]] {
        fs::write(&record, &none).unwrap();
        let output = keeps_all(args);
        assert!(output.contains("it has no secret now"), "{output}");
        fs::write(&record, "").unwrap();
        keeps_all(args);
        fs::remove_file(&record).unwrap();
        keeps_all(args);
    }
    // More than half of the store.
    let mut few: Value = serde_json::from_str(&whole).unwrap();
    let by_hand = host_id(&whole, "by-hand");
    few["secrets"].as_object_mut().unwrap().retain(|id, _| *id == by_hand);
    fs::write(&record, few.to_string()).unwrap();
    let output = keeps_all(&[]);
    assert!(
        output.contains("it lost 4 of its 5 secrets; --accept-removals removes them"),
        "{output}"
    );
    host.driver(&["gc", "--accept-removals"]).ok();
    assert_eq!(registered(&host), 1);
    host.driver(&["restore", "--all"]).ok();
    fs::write(&record, &whole).unwrap();
    assert!(host.driver(&["gc"]).text().starts_with("nothing to remove\n"));
    assert_eq!((registered(&host), host.lookup("myapp--D").as_str()), (5, "4"));
}

fn host_id(record: &str, name: &str) -> String {
    let record: Value = serde_json::from_str(record).unwrap();
    record["nameToID"][name].as_str().unwrap().to_owned()
}

/// This removal cannot be undone.
#[test]
fn gc_removes_file_driver_values_that_psi_serves() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let create = |name: &str| {
        let directory = host.podman.secrets_directory().join("filedriver");
        let path = format!("--driver-opts=path={}", directory.display());
        let made = host.podman.run(&["secret", "create", "--driver=file", &path, name, "-"], "old");
        assert_eq!(made.code, 0, "{}", made.stderr);
    };
    create("used");
    create("unreferenced");
    let clear = host.podman.secrets_directory().join("filedriver/secretsdata.json");
    let record = host.podman.secrets_directory().join("secrets.json");
    let values = || {
        let values: Value = serde_json::from_slice(&fs::read(&clear).unwrap()).unwrap();
        values.as_object().unwrap().len()
    };
    let whole = fs::read_to_string(&record).unwrap();
    for nothing in [Some(""), None, Some(r#"{"secrets":{},"nameToID":{},"idToName":{}}"#)] {
        match nothing {
            Some(text) => fs::write(&record, text).unwrap(),
            None => fs::remove_file(&record).unwrap(),
        }
        assert_ne!(host.driver(&["gc", "--remove-plaintext"]).run().code, 0);
        assert_eq!(values(), 2);
    }
    let mut one_less: Value = serde_json::from_str(&whole).unwrap();
    let id = host_id(&whole, "unreferenced");
    one_less["secrets"].as_object_mut().unwrap().remove(&id);
    fs::write(&record, one_less.to_string()).unwrap();
    let outcome = host.driver(&["gc"]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!((outcome.code, values()), (1, 2), "{output}");
    assert!(
        output.contains("kept 1 plaintext value") && output.contains("--remove-plaintext"),
        "{output}"
    );
    // psid has another value under this id.
    host.instance.driver(&["store"]).id(&id).stdin("another").ok();
    let outcome = host.driver(&["gc", "--remove-plaintext"]).run();
    let printed = String::from_utf8(outcome.stdout).unwrap();
    assert!(outcome.code == 1 && printed.contains("psid has another value"), "{printed}");
    assert_eq!(values(), 2);
    host.instance.driver(&["delete", &id]).ok();
    host.driver(&["gc", "--remove-plaintext"]).run();
    assert_eq!(values(), 1);
    host.podman.container(&["--secret=used"], "test \"$(cat /run/secrets/used)\" = old");
    // The same value under the same id is proof.
    fs::write(&record, &whole).unwrap();
    let used = host_id(&whole, "used");
    host.instance.driver(&["store"]).id(&used).stdin("old").ok();
    let mut gone: Value = serde_json::from_str(&whole).unwrap();
    gone["secrets"].as_object_mut().unwrap().remove(&used);
    fs::write(&record, gone.to_string()).unwrap();
    host.driver(&["gc"]).run();
    assert_eq!(values(), 0);
}

/// Podman holds no lock between its answers: meanwhile, secrets of psi and of the file driver are
/// created.
#[test]
fn gc_keeps_secrets_created_meanwhile() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let bin = host.instance.directory().join("bin");
    fs::create_dir(&bin).unwrap();
    let path = std::env::var("PATH").unwrap();
    let clear = host.podman.secrets_directory().join("filedriver");
    // A podman during whose answers others create secrets.
    let script = format!(
        "#!/bin/sh\nPATH='{path}'\n\
         made() {{ printf hunter2 | podman secret create --driver=file --driver-opts=path={clear} \"$1-file\" -\n\
         printf literal | podman secret create \"$1-psi\" -; }}\n\
         made \"before-$$\" >&2\npodman \"$@\"\ncode=$?\nmade \"after-$$\" >&2\nexit $code\n",
        clear = clear.display(),
    );
    fs::write(bin.join("podman"), script).unwrap();
    fs::set_permissions(bin.join("podman"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = host.driver(&["gc"]).env("PATH", format!("{}:{path}", bin.display())).text();
    assert!(output.starts_with("nothing to remove\n"), "{output}");
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

/// A user chooses the files in their home, and gc runs as root.
#[test]
fn gc_is_not_blocked_by_files_in_a_home() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    host.instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    host.instance.driver(&["store"]).id(id(2)).stdin("theirs").ok();
    let home = host.instance.directory().join("home");
    let secrets = home.join(".local/share/containers/storage/secrets");
    let (record, lock) = (secrets.join("secrets.json"), secrets.join("secrets.lock"));
    fs::create_dir_all(&secrets).unwrap();
    let passwd = host.instance.directory().join("passwd");
    fs::write(&passwd, format!("root:x:0:0::/root:/bin/sh\na:x:1:1::{}:\n", home.display()))
        .unwrap();
    let script = format!("mount --bind {} /etc/passwd && exec \"$@\"", passwd.display());
    let script = format!("exec unshare --mount sh -c '{script}' sh \"$@\"");
    let gc = |args: &[&str]| host.driver(&[&["gc"], args].concat()).through_shell(&script);
    let known = json!({"secrets": {id(2): {}}}).to_string();
    let is_left_out = |why: &str| {
        let outcome = gc(&[]);
        let output = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(outcome.code, 1, "{output}");
        let line = format!("not read: {}: ", secrets.parent().unwrap().display());
        assert!(output.contains(&line) && output.contains(why), "{output}");
        assert_eq!(host.instance.driver(&["list"]).text().lines().count(), 3, "{output}");
        fs::remove_file(&record).unwrap();
        fs::remove_file(&lock).unwrap();
    };

    fs::write(&lock, "").unwrap();
    mkfifo(&record, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    is_left_out("secrets.json is not a regular file");
    fs::write(&lock, "").unwrap();
    symlink("/dev/zero", &record).unwrap();
    is_left_out("secrets.json is a symbolic link");
    fs::write(&record, &known).unwrap();
    mkfifo(&lock, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    is_left_out("secrets.lock is not a regular file");
    fs::write(&record, "{").unwrap();
    fs::write(&lock, "").unwrap();
    is_left_out("EOF while parsing");
    fs::write(&record, &known).unwrap();
    fs::write(&lock, "").unwrap();
    chown(&record, Some(1), None).unwrap();
    is_left_out("secrets.json does not belong to its directory's owner");
    fs::write(&lock, "").unwrap();
    fs::File::create(&record).unwrap().set_len((8 << 20) + 1).unwrap();
    is_left_out("secrets.json is larger than");
    fs::write(&record, &known).unwrap();
    let held = fs::File::create(&lock).unwrap();
    lock_as_podman(&held);
    is_left_out("has held secrets.lock for 5 s");
    drop(held);

    // A link made by the user.
    fs::write(&record, &known).unwrap();
    fs::write(&lock, "").unwrap();
    let local = home.join(".local");
    chown(&home, Some(1), None).unwrap();
    fs::rename(&local, home.join("elsewhere")).unwrap();
    symlink("elsewhere", &local).unwrap();
    let printed = String::from_utf8(gc(&[]).stdout).unwrap();
    assert!(printed.contains(".local is a symbolic link"), "{printed}");
    assert_eq!(registered(&host), 3);

    // Now the record is readable: its secrets are known, and what it loses later is proven unused.
    fs::remove_file(&local).unwrap();
    fs::rename(home.join("elsewhere"), &local).unwrap();
    chown(&home, Some(0), None).unwrap();
    let two = json!({"secrets": {id(1): {"name": "one"}, id(2): {"name": "two"}}}).to_string();
    fs::write(&record, &two).unwrap();
    let outcome = gc(&[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    fs::write(&record, &known).unwrap();
    assert_eq!(gc(&[]).code, 0);
    host.instance.driver(&["lookup"]).id(id(1)).fails(66);
    assert_eq!(host.instance.driver(&["lookup"]).id(id(2)).text(), "theirs");
    fs::write(&record, "{").unwrap();
    assert_eq!(gc(&[]).code, 1);
    assert_eq!(host.instance.driver(&["lookup"]).id(id(2)).text(), "theirs");
}
