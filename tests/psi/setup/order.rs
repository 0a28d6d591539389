//! What a setup leaves when it is stopped in the middle, and two at once.

use std::process::Command;

use serde_json::{Map, Value, json};

use super::host::Host;
use crate::harness::run;

/// Two setups wait for each other, and the second one finds nothing to do.
#[test]
fn two_setups_at_once_are_one_after_the_other() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2", "C": "3", "D": "4"}));
    let writes: Vec<u64> = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| host.set_up(&[])));
        both.map(|one| one.join().unwrap()["podman_writes"].as_u64().unwrap()).into()
    });
    assert_eq!(writes.iter().sum::<u64>(), 4, "{writes:?}");
    assert_eq!(host.ids().len(), 4);
}

/// A secret that podman does not take costs the others nothing, and comes into no drop-in.
#[test]
fn a_secret_that_podman_refuses_is_named_and_not_in_the_drop_in() {
    let long = "K".repeat(240);
    let host = Host::with_myapp(&json!({"A": "1", long.as_str(): "2", "Z": "3"}));
    let outcome = host.setup(&[]).run();
    let told = String::from_utf8(outcome.stdout).unwrap();
    // Podman before 4.6 takes 64 characters.
    let refused = !host.ids().contains_key(&format!("myapp--{long}"));
    assert_eq!(outcome.code, if refused { 65 } else { 0 }, "{told}");
    assert_eq!(told.contains(&format!("error: myapp--{long}: podman: ")), refused, "{told}");
    assert_eq!(host.drop_in("myapp").contains(&long), !refused);
    assert!(host.ids().contains_key("myapp--A") && host.ids().contains_key("myapp--Z"));
}

/// Without podman's API socket, many secrets are not as many podmans: one is started for all of them, and it
/// is gone afterwards.
#[test]
fn many_secrets_take_few_podmans() {
    let secrets: Map<String, Value> =
        (0..30).map(|number| (format!("K{number:02}"), json!("value"))).collect();
    let host = Host::with_myapp(&secrets.into());
    let (bin, calls) = (host.world.folder().join("bin"), host.world.folder().join("calls"));
    std::fs::create_dir(&bin).unwrap();
    let podman = "podman=$(PATH=$3 command -v podman) && printf '#!/bin/sh\necho \"$*\" >>%s\nexec %s \"$@\"\n' \
                  \"$1\" \"$podman\" >\"$2/podman\" && chmod 755 \"$2/podman\"";
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-euc", podman, "sh"]).arg(&calls).arg(&bin).arg(&path);
    assert_eq!(run(shell, b"").code, 0);
    host.setup(&[]).env("PATH", format!("{}:{path}", bin.display())).ok();
    assert_eq!(host.ids().len(), 30);
    let calls = std::fs::read_to_string(calls).unwrap();
    let lines: Vec<_> = calls.lines().map(|line| line.split(" unix://").next().unwrap()).collect();
    assert_eq!(lines, ["secret ls --quiet", "system service --time=0"]);
    let socket = calls.split("unix://").nth(1).unwrap().trim();
    assert!(!std::path::Path::new(socket).exists());
}
