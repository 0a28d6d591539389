//! Migration from the Python PSI, whose podman secrets call it by curl, with its token, over its
//! unix socket.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::json;

use super::{migrate, migrated, names};
use psi_harness::Host;
use psi_harness::python_psi::{adopt, cached, instance_in_an_outage, leave_in};
use psi_harness::{directory_holds, reference};

/// A server of the Python PSI: `GET /lookup/ID` for these values. It ends with the test's process.
fn serve(socket: &Path, values: BTreeMap<String, Vec<u8>>) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = BufReader::new(&connection).lines().map_while(Result::ok);
            let first = request.next().unwrap_or_default();
            let authorised = request
                .take_while(|line| !line.is_empty())
                .any(|line| line.contains("Bearer hunter2-token"));
            let id = first.split(' ').nth(1).and_then(|path| path.strip_prefix("/lookup/"));
            let answer = match id.and_then(|id| values.get(id)).filter(|_| authorised) {
                Some(value) => [b"HTTP/1.0 200 OK\r\n\r\n", value.as_slice()].concat(),
                None => b"HTTP/1.0 404 Not Found\r\n\r\n".to_vec(),
            };
            let _ = connection.write_all(&answer);
        }
    });
}

/// The options that the Python PSI writes into each secret (unitgen.py of its last version).
fn options(socket: &Path) -> String {
    let curl = format!(
        "curl -sf --unix-socket {} -H 'Authorization: Bearer hunter2-token' http://localhost",
        socket.display()
    );
    let id = "$SECRET_ID";
    format!(
        "lookup={curl}/lookup/{id},store=cat >/dev/null,delete={curl}/delete/{id},list={curl}/list"
    )
}

/// Podman secrets of the Python PSI, whose mappings are in a directory; by name, with their values.
fn python_host(host: &Host, state: &Path, socket: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut by_id = BTreeMap::new();
    let mut by_name = BTreeMap::new();
    for (number, (old, value)) in cached().into_iter().enumerate() {
        let name = format!("app--{number}");
        let create =
            ["secret", "create", "--driver=shell", "--driver-opts", &options(socket), &name, "-"];
        let outcome = host.podman.run(&create, "x");
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        // The mapping gets the id that podman chose.
        let id = host.ids()[&name].clone();
        fs::rename(state.join(&old), state.join(&id)).unwrap();
        by_id.insert(id, value.clone());
        by_name.insert(name, value);
    }
    serve(socket, by_id);
    by_name
}

fn assert_all_are_served(host: &Host, values: &BTreeMap<String, Vec<u8>>) {
    for (name, value) in values {
        let options = host.podman.driver_options(name);
        assert!(options["lookup"].ends_with("psi-driver lookup"), "{options:?}");
        let outcome = host.podman.as_podman(&options["lookup"], &host.ids()[name], b"");
        assert_eq!((outcome.code, &outcome.stdout), (0, value), "{name}: {}", outcome.stderr);
    }
}

/// A host of the Python PSI in an outage: its state was migrated by command, and podman still calls
/// curl.
fn host_in_an_outage() -> (Host, PathBuf, BTreeMap<String, Vec<u8>>) {
    let instance = instance_in_an_outage();
    let state = instance.state();
    leave_in(&state, "cache-tpm.enc");
    let mut host = Host::around(instance);
    let socket = host.instance.run().join("python.sock");
    let values = python_host(&host, &state, &socket);
    adopt(&host.instance, &[state.to_str().unwrap()]).ok();
    host.start_psid();
    (host, socket, values)
}

/// PR #29 in reverse: by podman's ids, not by names.
#[test]
fn pr29_ids_resolve_through_psi_before_podman_switches() {
    let (host, _, values) = host_in_an_outage();
    let ids = host.ids();
    let report = migrated(&host, "psi", &["--dry-run"]);
    assert_eq!(names(&report).len(), values.len(), "{report}");
    let json = migrated(&host, "psi", &[]);
    assert_eq!(names(&json).len(), values.len(), "{json}");
    assert!(json["moved"].as_array().unwrap().iter().all(|one| one["compared"] == true), "{json}");
    assert_eq!(host.ids(), ids);
    assert_all_are_served(&host, &values);
    assert_eq!(directory_holds(&host.podman.secrets_directory(), b"hunter2-token"), None, "N9");
    let output = migrate(&host, "psi", &[]).text();
    assert_eq!(output, "no secret has the commands of another psi\n");
}

/// The Python PSI's directory is elsewhere, and it is stopped: each mapping is registered under
/// podman's id.
#[test]
fn mappings_of_another_directory_are_registered() {
    let mut host = Host::with_myapp(&json!({"A": "1", "B": "2"}));
    let old = host.instance.directory().join("old-psi");
    fs::create_dir(&old).unwrap();
    let absent = host.instance.run().join("absent.sock");
    for name in ["A", "B"] {
        let create =
            ["secret", "create", "--driver=shell", "--driver-opts", &options(&absent), name, "-"];
        assert_eq!(host.podman.run(&create, "x").code, 0);
    }
    let ids = host.ids();
    fs::write(old.join(&ids["A"]), reference("/myapp", "A")).unwrap();
    let outcome = migrate(&host, "psi", &["--state", old.to_str().unwrap()]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65, "{output}");
    assert!(
        output.contains("moved A: the mapping in ")
            && output.contains("the old store does not answer"),
        "{output}"
    );
    assert!(output.contains("left B: psid has no registration of it and "), "{output}");
    assert_eq!(host.lookup("A"), "1");
    assert!(host.podman.driver_options("B")["lookup"].starts_with("curl"));
    fs::write(old.join(&ids["B"]), reference("/myapp", "B")).unwrap();
    // Without psid, nothing changes.
    host.stop_psid();
    migrate(&host, "psi", &["--state", old.to_str().unwrap()]).fails(69);
    host.start_psid();
    assert_eq!(names(&migrated(&host, "psi", &["--state", old.to_str().unwrap()])), ["B"]);
    assert_eq!(host.lookup("B"), "2");
}

/// An admin decides which of two values is right.
#[test]
fn secret_with_a_different_old_value_is_not_migrated() {
    let host = Host::with_myapp(&json!({"A": "new"}));
    let socket = host.instance.run().join("python.sock");
    let create =
        ["secret", "create", "--driver=shell", "--driver-opts", &options(&socket), "A", "-"];
    assert_eq!(host.podman.run(&create, "x").code, 0);
    let id = host.ids()["A"].clone();
    serve(&socket, BTreeMap::from([(id.clone(), b"old".to_vec())]));
    host.instance.driver(&["store"]).id(&id).stdin(reference("/myapp", "A")).ok();
    let outcome = migrate(&host, "psi", &[]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65, "{output}");
    assert!(output.contains("left A: psi has another value than the old store"), "{output}");
    assert!(!output.contains("hunter2-token"), "{output}");
    assert!(host.podman.driver_options("A")["lookup"].starts_with("curl"));
    host.infisical.put("/myapp", "A", "old");
    host.instance.driver(&["cache", "refresh"]).ok();
    assert_eq!(names(&migrated(&host, "psi", &[])), ["A"]);
}
