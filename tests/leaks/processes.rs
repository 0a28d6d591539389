//! Arguments and environment of processes, which every user or every process of the same user can
//! read.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::canaries::{Canaries, canary};
use psi_harness::{FakeInfisical, Instance, Process, Tpm, eventually, id, reference, run, seed};

/// A wrapper of systemd-creds that records what other users can see of it.
struct Recorder {
    directory: PathBuf,
    path: String,
}

impl Recorder {
    fn new(instance: &Instance) -> Self {
        let path = std::env::var("PATH").unwrap();
        let real = path.split(':').map(|directory| Path::new(directory).join("systemd-creds"));
        let real = real.into_iter().find(|program| program.exists());
        let real = real.expect("no systemd-creds: install systemd");
        let (directory, programs) =
            (instance.directory().join("seen"), instance.directory().join("programs"));
        fs::create_dir(&directory).unwrap();
        fs::create_dir(&programs).unwrap();
        let script = format!(
            "#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ /proc/$$/limits >{}/$$\nexec {} \"$@\"\n",
            directory.display(),
            real.display()
        );
        fs::write(programs.join("systemd-creds"), script).unwrap();
        fs::set_permissions(programs.join("systemd-creds"), Permissions::from_mode(0o755)).unwrap();
        Self { directory, path: format!("{}:{path}", programs.display()) }
    }

    /// The records so far, one per process.
    fn seen(&self) -> Vec<String> {
        let files = fs::read_dir(&self.directory).unwrap();
        files
            .map(|file| String::from_utf8(fs::read(file.unwrap().path()).unwrap()).unwrap())
            .collect()
    }
}

/// Opens the key by systemd-creds, because `init` does not print it.
fn open_key(instance: &Instance, tpm: &Tpm) -> Vec<u8> {
    let mut command = Command::new("systemd-creds");
    command.args(["decrypt", "--name=psi-cache-key"]).arg(instance.sealed_key()).arg("-");
    command.env("SYSTEMD_TPM2_DEVICE", tpm.device());
    let opened = run(command, b"");
    assert_eq!((opened.code, opened.stdout.len()), (0, 32), "{}", opened.stderr);
    opened.stdout
}

#[test]
fn no_process_exposes_a_secret_or_an_opened_sealed_key() {
    let [value, literal, client_secret] = ["value", "literal", "client"].map(canary);
    let mut infisical = seed(&json!({"/myapp": {"A": value}, "/other": {"B": value}}));
    infisical["identities"][0]["clientSecrets"][0]["secret"] = json!(client_secret);
    let infisical = FakeInfisical::launch(&infisical, &[]);
    let tpm = Tpm::start();
    let instance = Instance::of(&infisical);
    instance.give_client_secret(&client_secret);
    instance.take_key();
    let recorder = Recorder::new(&instance);

    let init = instance.driver(&["cache", "init", "--backend", "tpm"]);
    let init = init.env("SYSTEMD_TPM2_DEVICE", tpm.device()).env("PATH", &recorder.path).run();
    assert_eq!(init.code, 0, "{}", init.stderr);
    tpm.flush();
    let mut canaries = Canaries::default();
    canaries.add("the data key", &open_key(&instance, &tpm));
    canaries.add("the value", value.as_bytes());
    canaries.add("the literal", literal.as_bytes());
    canaries.add("the client secret", client_secret.as_bytes());
    tpm.flush();

    let start = instance.psid().env("SYSTEMD_TPM2_DEVICE", tpm.device());
    let psid = start.env("PATH", &recorder.path).start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["store"]).id(id(2)).stdin(reference("/other", "B")).ok();
    instance.driver(&["store"]).id(id(3)).stdin(&literal).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), value);
    let log = infisical.log();
    let token = log.iter().find_map(|r| r.header("authorization").strip_prefix("Bearer "));
    canaries.add("the access token", token.unwrap().as_bytes());

    // A lookup whose provider hangs, and a store that has read half of its secret.
    infisical.fault(&json!({"kind": "hang"}));
    infisical.clear_log();
    let mut lookup = instance.driver(&["lookup"]).id(id(2)).command();
    lookup.stdin(Stdio::null()).stdout(Stdio::null());
    let lookup = Process::start(lookup);
    let mut store = instance.driver(&["store"]).id(id(4)).command();
    store.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut store = Process::start(store);
    store.child().stdin.as_mut().unwrap().write_all(literal.as_bytes()).unwrap();
    infisical.await_count("GET", "/api/v", 1);
    for pid in [psid.process.pid(), lookup.pid(), store.pid()] {
        assert_eq!(canaries.shown_by(pid), None);
    }
    let seen = recorder.seen();
    let verbs =
        |verb: &str| seen.iter().filter(|text| text.contains(&format!("\0{verb}\0"))).count();
    assert!(verbs("encrypt") == 1 && verbs("decrypt") >= 2, "{seen:?}");
    for text in &seen {
        canaries.absent("what systemd-creds shows", text.as_bytes());
        // It holds the key, and psid's own limit applies.
        let limit = text.lines().find_map(|line| line.strip_prefix("Max core file size"));
        let limit: Vec<&str> = limit.unwrap().split_whitespace().take(2).collect();
        assert_eq!(limit, ["0", "0"]);
    }
    assert_eq!(canaries.below(instance.directory(), &instance.credentials()), None);
    canaries.absent("the output of init", &[init.stdout, init.stderr.into_bytes()].concat());
    canaries.absent("psid's log", psid.log().as_bytes());

    // The same search finds what another process exposes.
    let mut exposed = Command::new("sleep");
    exposed.arg("1000").env("PASSWORD", &value);
    assert_found(&canaries, exposed, "environ");
    let mut exposed = Command::new("sh");
    exposed.args(["-c", "read x", "sh", &value]).stdin(Stdio::piped());
    assert_found(&canaries, exposed, "cmdline");
}

#[track_caller]
fn assert_found(canaries: &Canaries, exposed: Command, place: &str) {
    let exposed = Process::start(exposed);
    let found = eventually("the process to be found", || canaries.shown_by(exposed.pid()));
    assert!(found.ends_with(place), "{found}");
}
