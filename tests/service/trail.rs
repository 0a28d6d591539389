//! The trail: the records of uses, refusals and changes, in psid's log and in the journal.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Outcome, Psid, id, is_readable, reference};

use crate::rpc_table::call::{text, try_call};

/// A uid without any right.
const STRANGER: u32 = 12_345;

/// A psid with one registered reference.
fn with_one_secret() -> (FakeInfisical, Instance, Psid) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "the value of A"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    (infisical, instance, psid)
}

/// The records of an event in a log.
fn records<'a>(log: &'a str, event: &str) -> Vec<&'a str> {
    let field = format!("event=\"{event}\"");
    log.lines().filter(|line| line.contains(&field)).collect()
}

/// Runs a call as a process of the unit `psi-test.service`: in a control group of that name.
fn in_unit(instance: &Instance, args: &[&str], number: u32) -> Outcome {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let unified = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, path) = (words.next()?, words.next()?);
        (words.next()? == "cgroup2").then(|| PathBuf::from(path))
    });
    let group = unified.expect("no cgroup2 is mounted").join("psi.slice/psi-test.service");
    fs::create_dir_all(&group).unwrap();
    let script = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", group.display());
    instance.driver(args).id(id(number)).through_shell(&script)
}

#[test]
fn first_lookup_of_each_value_is_recorded_with_user_and_unit() {
    let (infisical, instance, psid) = with_one_secret();
    let lookup = || {
        let outcome = in_unit(&instance, &["lookup"], 1);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    };
    (0..3).for_each(|_| lookup());
    infisical.put("/myapp", "A", "another value");
    instance.driver(&["cache", "refresh"]).ok();
    (0..3).for_each(|_| lookup());
    // Without a unit, it is another caller.
    instance.driver(&["lookup"]).id(id(1)).ok();
    instance.driver(&["lookup"]).id(id(2)).fails(66);
    let log = psid.terminate();
    let lookups = records(&log, "lookup");
    assert_eq!(lookups.len(), 4, "{log}");
    let fields = format!(
        "secret_id=\"{}\" secret_name=\"infisical key=A path=/myapp project=myproject\" uid=0 \
         unit=\"psi-test.service\" outcome=\"ok\"",
        id(1)
    );
    assert!(lookups[..2].iter().all(|record| record.contains(&fields)), "{lookups:#?}");
    assert!(!lookups[2].contains("unit=") && lookups[3].contains("outcome=\"unknown\""));
    assert!(!log.contains("the value of A") && !log.contains("another value"), "{log}");
}

#[test]
fn each_change_is_recorded() {
    let (infisical, instance, mut psid) = with_one_secret();
    let call = |args: &[&str]| instance.driver(args).id(id(2)).stdin("a literal").ok();
    call(&["store"]);
    call(&["delete"]);
    call(&["restore", &id(2)]);
    call(&["cache", "recovery-key"]);
    instance.driver(&["lookup"]).id(id(1)).ok();
    call(&["drill", "--for", "1s"]);
    instance.driver(&["cache", "rekey"]).run();
    let import = ["import", "env-file", "-", "--project", "myproject", "--path", "/myapp"];
    instance.driver(&import).stdin("NEW=1\n").ok();
    instance.driver(&[&import[..], &["--dry-run"]].concat()).stdin("NEWER=1\n").ok();
    let repoint = [text(1, &id(1)), text(2, &reference("/myapp", "B"))].concat();
    for (rpc, message) in [("Repoint", &repoint[..]), ("Plan", b"\x10\x01")] {
        let rpc = format!("psi.v1.WorkloadAdmin/{rpc}");
        let (status, _, message) = try_call(&instance.socket(), 0, &rpc, message).unwrap();
        assert_eq!(status, 0, "{rpc}: {message}");
    }
    instance.configure(&Config::of(&infisical).cache("max_stale = \"7d\""));
    psid.reload();
    // The same config again is no change.
    psid.reload();
    fs::write(instance.config(), "[cache]\nbackend = 7\n").unwrap();
    psid.reload();
    let log = psid.terminate();
    for (event, outcomes) in [
        ("store", &["ok", "ok"][..]),
        ("delete", &["ok"]),
        ("restore", &["ok"]),
        ("recovery-key", &["ok"]),
        ("drill", &["ok"]),
        ("import", &["ok"]),
        ("repoint", &["ok"]),
        ("setup", &["ok"]),
        ("config", &["ok", "malformed"]),
    ] {
        let found = records(&log, event);
        assert_eq!(found.len(), outcomes.len(), "{event}: {log}");
        for (record, outcome) in found.iter().zip(outcomes) {
            assert!(record.contains(&format!("outcome=\"{outcome}\"")), "{record}");
            assert_eq!(record.contains(" uid=0 "), event != "config", "{record}");
        }
    }
    assert_eq!(records(&log, "rekey").len(), 1, "{log}");
    assert!(!log.contains("a literal") && !log.contains("NEW=1"), "{log}");
}

/// A user who may not call can neither fill the journal nor hide how often it called.
#[test]
fn refusals_are_bounded_and_counted() {
    let (_infisical, instance, psid) = with_one_secret();
    // To reach the socket, which root alone may do.
    fs::set_permissions(instance.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .unwrap();
    let call = instance.driver(&["lookup"]).id(id(1)).user(&instance, STRANGER, STRANGER);
    for _ in 0..60 {
        call.fails(77);
    }
    let metrics = instance.driver(&["metrics"]).text();
    for line in ["psi_refused_calls_total 60", "psi_trail_left_out_total 40"] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    assert_eq!(psid.status()["refused_calls"], 60);
    let log = psid.terminate();
    let refusals = records(&log, "refusal");
    assert_eq!(refusals.len(), 20, "{log}");
    assert!(refusals[0].contains(&format!("uid={STRANGER} ")), "{refusals:#?}");
}

/// A text that names no secret may be a value that was pasted in its place.
#[test]
fn name_that_was_not_found_is_not_recorded() {
    let (_infisical, instance, psid) = with_one_secret();
    instance.driver(&["get", "hunter2-is-no-name"]).fails(66);
    instance.driver(&["get", &reference("/myapp", "A")]).ok();
    let log = psid.terminate();
    assert!(!log.contains("hunter2"), "{log}");
    let named = "secret_name=\"infisical key=A path=/myapp project=myproject\"";
    assert!(records(&log, "lookup").iter().any(|record| record.contains(named)), "{log}");
}

/// A hardened host, and a psid in a container, show no other processes.
#[test]
fn lookup_without_a_readable_proc_is_served_and_has_no_unit() {
    let (_infisical, instance, psid) = with_one_secret();
    psid.terminate();
    let hidden = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];
    let psid = instance.psid().through(&hidden).start();
    let outcome = in_unit(&instance, &["lookup"], 1);
    assert_eq!((outcome.code, &*outcome.stdout_text()), (0, "the value of A"));
    let log = psid.terminate();
    let lookups = records(&log, "lookup");
    assert!(lookups.len() == 1 && !lookups[0].contains("unit="), "{log}");
}

/// The trail is no diagnosis that a verbosity turns off.
#[test]
fn trail_is_logged_at_each_verbosity() {
    let (_infisical, instance, psid) = with_one_secret();
    psid.terminate();
    let args = ["--log-format", "json", "--log-level", "error"];
    let psid = instance.psid().args(&args).start();
    instance.driver(&["lookup"]).id(id(1)).ok();
    let log = psid.terminate();
    let record = log.lines().find(|line| line.contains("lookup")).expect("no record");
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    let fields = &record["fields"];
    assert_eq!((&fields["event"], &fields["uid"]), (&json!("lookup"), &json!(0)));
    assert_eq!((&fields["secret_id"], &fields["outcome"]), (&json!(id(1)), &json!("ok")));
}

/// A socket in place of the journal's, and psid's records in it.
struct Journal {
    socket: UnixDatagram,
    directory: PathBuf,
}

impl Journal {
    fn new(instance: &Instance) -> Self {
        let directory = instance.directory().join("journal");
        fs::create_dir(&directory).unwrap();
        let socket = UnixDatagram::bind(directory.join("socket")).unwrap();
        Self { socket, directory }
    }

    /// A shell that runs psid where this is the journal, and stderr is connected to it.
    fn script(directory: &Path) -> String {
        format!(
            "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
             mount --bind {} /run/systemd/journal && \
             JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec \"$@\"",
            directory.display()
        )
    }

    /// The fields of the next record that has this one.
    #[track_caller]
    fn await_record(&self, field: &str) -> Vec<String> {
        loop {
            assert!(is_readable(&self.socket, psi_harness::LIMIT), "no record has {field}");
            let mut buffer = [0; 16_384];
            let count = self.socket.recv(&mut buffer).unwrap();
            let fields = fields(&buffer[..count]);
            if fields.iter().any(|found| found == field) {
                return fields;
            }
        }
    }
}

/// The fields of a record in the journal's native protocol: `KEY=value`, or `KEY`, a length and the value.
fn fields(mut record: &[u8]) -> Vec<String> {
    let mut fields = Vec::new();
    while let Some(end) = record.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&record[..end], &record[end + 1..]);
        record = rest;
        let mut text = String::from_utf8(line.to_vec()).unwrap();
        if !text.contains('=') {
            let length = u64::from_le_bytes(record[..8].try_into().unwrap()) as usize;
            text = format!("{text}={}", std::str::from_utf8(&record[8..8 + length]).unwrap());
            record = &record[8 + length + 1..];
        }
        fields.push(text);
    }
    fields
}

#[test]
fn journal_gets_each_field_of_its_own() {
    let (_infisical, instance, psid) = with_one_secret();
    psid.terminate();
    let journal = Journal::new(&instance);
    let script = Journal::script(&journal.directory);
    let psid = instance.psid().args(&[]).through(&["unshare", "-m", "sh", "-c", &script, "sh"]);
    let psid = psid.start();
    in_unit(&instance, &["lookup"], 1);
    let record = journal.await_record("PSI_EVENT=lookup");
    for field in [
        &format!("PSI_SECRET_ID={}", id(1)),
        "PSI_SECRET_NAME=infisical key=A path=/myapp project=myproject",
        "PSI_UID=0",
        "PSI_UNIT=psi-test.service",
        "PSI_OUTCOME=ok",
        "SYSLOG_IDENTIFIER=psid",
    ] {
        assert!(record.iter().any(|found| found == field), "{field}: {record:#?}");
    }
    assert!(!record.iter().any(|field| field.contains("the value of A")), "{record:#?}");
    psid.terminate();
}
