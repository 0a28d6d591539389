//! `psi-driver gc`

use std::fs;
use std::os::unix::fs::PermissionsExt;

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
    let mut host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let other = crate::podman::host::Podman::of(&host.world);
    let theirs = other.create("theirs", "a literal");
    let root = other.secrets_folder().parent().unwrap().display().to_string();
    host.serve_api();
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
