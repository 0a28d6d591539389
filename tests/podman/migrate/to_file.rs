//! The way back to podman's file driver.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::setup::writes::Writes;
use psi_harness::{Driver, Host, TerminalSession, directory_holds, id, reference};

/// `psictl migrate --to file`.
fn to_file(host: &Host, args: &[&str]) -> Driver {
    host.driver(&[&["migrate", "--to", "file"], args].concat())
}

/// The report of a run with this exit status, whose warning is on stderr.
#[track_caller]
fn moved(host: &Host, code: i32, args: &[&str]) -> Value {
    let outcome = to_file(host, &[&["--json", "--yes"], args].concat()).run();
    assert_eq!(outcome.code, code, "{}{}", outcome.stdout_text(), outcome.stderr);
    assert!(outcome.stderr.contains("keeps values in plaintext"), "{}", outcome.stderr);
    serde_json::from_slice(&outcome.stdout).unwrap()
}

fn names(report: &Value) -> Vec<&str> {
    report["moved"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

/// Podman's record.
fn record(host: &Host) -> Value {
    let path = host.podman.secrets_directory().join("secrets.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What a container has in `/run/secrets`.
fn mounted(host: &Host, names: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let options: Vec<String> = names.iter().map(|name| format!("--secret={name}")).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    host.podman.container(&options, "cp /run/secrets/* /out")
}

/// A literal of each odd kind, and a reference whose value is `from the provider`.
fn host() -> (Host, Vec<(&'static str, Vec<u8>)>) {
    let host = Host::with_myapp(&json!({"A": "from the provider"}));
    let mut values: Vec<(&str, Vec<u8>)> = vec![
        ("plain", b"hunter2-plain".to_vec()),
        ("lines", b"line\r\nline\n\n".to_vec()),
        ("bytes", b"a\0\xff\xfe".to_vec()),
        ("large", (0..511_999_u32).map(|byte| byte as u8).collect()),
    ];
    for (name, value) in &values {
        host.podman.create(name, value);
    }
    let labelled = ["secret", "create", "--label", "team=a", "reference", "-"];
    assert_eq!(host.podman.run(&labelled, reference("/myapp", "A")).code, 0);
    values.push(("reference", b"from the provider".to_vec()));
    (host, values)
}

#[test]
fn file_driver_gets_every_value_and_psi_is_needed_no_more() {
    let (mut host, values) = host();
    let names_of_all: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    let (ids, before) = (host.ids(), record(&host));
    assert!(host.driver(&["dependents"]).run().stdout_text().contains("psi serves 5 secrets of"));

    let writes = Writes::of(&host);
    let report = moved(&host, 0, &[]);
    assert_eq!(writes.count(), 1, "one for all");
    let mut sorted = names_of_all.clone();
    sorted.sort_unstable();
    assert_eq!(names(&report), sorted, "{report}");
    assert_eq!(host.ids(), ids, "ids and names are as they were");
    assert_eq!(host.instance.driver(&["list"]).text(), "", "psid keeps no registration");
    host.stop_psid();
    assert_eq!(
        mounted(&host, &names_of_all),
        values.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect()
    );

    // Podman itself is the judge of its record: all but the driver is as it was, and the driver is as podman writes it.
    // The harness's config has psi's options, which podman would add.
    let path = format!("path={}", host.podman.secrets_directory().join("filedriver").display());
    let own = ["secret", "create", "--driver=file", "--driver-opts", &path, "own", "-"];
    let outcome = host.podman.run(&own, b"own value");
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let after = record(&host);
    let as_podman = |record: &Value| record["secrets"][&host.ids()["own"]].clone();
    for (name, id) in &ids {
        let mut expected = before["secrets"][id].clone();
        expected["driver"] = as_podman(&after)["driver"].clone();
        expected["driverOptions"] = as_podman(&after)["driverOptions"].clone();
        assert_eq!(after["secrets"][id], expected, "{name}");
    }
    assert_eq!(mounted(&host, &["own", "plain"])["own"], b"own value");
    host.podman.ok(&["secret", "rm", "plain", "reference"]);
    assert_eq!(mounted(&host, &["bytes"])["bytes"], b"a\0\xff\xfe");
    assert_eq!(directory_holds(&host.podman.secrets_directory(), b"aHVudGVyMi1wbGFpbg"), None);
}

#[test]
fn dry_run_names_the_containers_and_changes_nothing() {
    let (host, _) = host();
    host.podman.ok(&["create", "--name=web", "--secret=plain", psi_harness::IMAGE, "sh"]);
    let env = "--secret=lines,type=env,target=L";
    host.podman.ok(&["create", "--name=job", env, psi_harness::IMAGE, "sh"]);
    let listed = host.instance.driver(&["list"]).text();
    let written = host.record();
    let text = to_file(&host, &["--dry-run"]).text();
    assert!(
        text.contains("would move plain: podman's file driver would have it; used by web\n"),
        "{text}"
    );
    assert!(
        text.contains("would move lines: podman's file driver would have it; used by job\n"),
        "{text}"
    );
    assert!(text.contains("would move bytes: podman's file driver would have it\n"), "{text}");
    assert_eq!((host.record(), host.instance.driver(&["list"]).text()), (written, listed));
    assert!(!host.podman.secrets_directory().join("filedriver/secretsdata.json").exists());
    let outcome = host.driver(&["dependents"]).run();
    let text = outcome.stdout_text();
    assert!(outcome.code == 1 && text.contains("used by 2 containers: job, web\n"), "{text}");
}

#[test]
fn move_is_confirmed_and_selected_by_name() {
    let (host, _) = host();
    let written = host.record();
    // Nobody is at a terminal.
    let line = to_file(&host, &[]).fails(2);
    assert!(
        line.contains("keeps values in plaintext") && line.contains("then add --yes"),
        "{line}"
    );
    assert_eq!(to_file(&host, &["--remove-plaintext", "--yes"]).run().code, 2);
    assert_eq!(host.driver(&["migrate", "--from", "file", "--yes"]).run().code, 2);
    assert!(to_file(&host, &["--yes", "other"]).fails(66).contains("podman has no secret other"));
    assert_eq!(host.record(), written);
    assert_eq!(names(&moved(&host, 0, &["plain", "bytes"])), ["bytes", "plain"]);
    let report = moved(&host, 0, &["plain", "large"]);
    assert_eq!(names(&report), ["large"], "{report}");
    let mut terminal = TerminalSession::start(to_file(&host, &["lines"]).command());
    terminal.answer("Type yes to move 1 secret: ", "no");
    let (code, screen) = terminal.finish();
    assert!(code == 2 && screen.contains("not confirmed: nothing was changed"), "{screen}");
    let remaining = report["remaining"]["stores"].as_object().unwrap();
    assert!(remaining.values().any(|left| *left == json!(["lines", "reference"])), "{report}");
    let mut terminal = TerminalSession::start(to_file(&host, &["lines"]).command());
    terminal.answer("Type yes to move 1 secret: ", "yes");
    let (code, screen) = terminal.finish();
    assert!(code == 0 && screen.contains("moved lines: "), "{screen}");
    assert_eq!(mounted(&host, &["plain", "lines"])["plain"], b"hunter2-plain");
}

#[test]
fn value_that_cannot_be_read_is_named_and_stays_with_psi() {
    let (host, _) = host();
    let create = ["secret", "create", "gone", "-"];
    let outcome = host.podman.run(&create, reference("/myapp", "GONE"));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let outcome = to_file(&host, &["--yes"]).run();
    let text = outcome.stdout_text();
    assert_eq!(outcome.code, 1, "{text}");
    assert!(text.contains("left gone: ") && text.contains("5 moved, 1 left;"), "{text}");
    assert!(
        text.contains("psi serves 1 secret of ") && text.contains("run it again for the rest"),
        "{text}"
    );
    host.podman.driver_options("gone");
    host.infisical.put("/myapp", "GONE", "back");
    host.instance.driver(&["cache", "refresh"]).run();
    assert_eq!(names(&moved(&host, 0, &[])), ["gone"]);
    assert_eq!(mounted(&host, &["gone", "plain"])["gone"], b"back");
}

#[test]
fn nothing_is_changed_without_psid() {
    let (mut host, _) = host();
    let written = host.record();
    host.stop_psid();
    to_file(&host, &["--yes"]).fails(69);
    assert_eq!(host.record(), written);
}

/// psictl is killed at each system call that changes a file, and at calls to psid. Every secret can be mounted after it,
/// and a second run does the rest.
#[test]
fn kill_at_any_step_loses_no_secret() {
    let host = Host::with_myapp(&json!({"A": "from the provider"}));
    let expected: BTreeMap<String, Vec<u8>> = [("a", "1"), ("b", "2"), ("r", "from the provider")]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into();
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let trace = host.instance.directory().join("trace");
    let steps: [(&str, u32); 5] = [
        ("mkdir", 1),
        ("fsync", 4),
        ("rename,renameat,renameat2", 2),
        ("sendto,write,writev", 6),
        ("connect", 6),
    ];
    let mut killed = 0;
    for (calls, count) in steps {
        for when in 1..=count {
            for (name, value) in [("a", "1"), ("b", "2")] {
                host.podman.create(name, value);
            }
            host.podman.create("r", reference("/myapp", "A"));
            let strace = format!(
                "strace -o {} -e trace={calls} -e inject={calls}:signal=SIGKILL:when={when} \"$@\" || exit 9",
                trace.display()
            );
            let outcome = to_file(&host, &["--yes"]).through_shell(&strace);
            killed += u32::from(outcome.code != 0);
            assert_eq!(mounted(&host, &names), expected, "killed at {calls} {when}");
            let outcome = to_file(&host, &["--yes"]).run();
            assert_eq!(outcome.code, 0, "{}{}", outcome.stdout_text(), outcome.stderr);
            assert_eq!(mounted(&host, &names), expected, "after a second run, {calls} {when}");
            assert_eq!(host.instance.driver(&["list"]).text(), "", "{calls} {when}");
            host.podman.ok(&["secret", "rm", "a", "b", "r"]);
        }
    }
    println!("psictl was killed {killed} times");
    assert!(killed >= 12, "{killed}");
}

/// An unfinished move in the other direction, and one whose registrations were left.
#[test]
fn leftover_registrations_are_removed_if_the_file_driver_has_the_value() {
    let host = Host::with_myapp(&json!({}));
    let path = format!("path={}", host.podman.secrets_directory().join("filedriver").display());
    for (name, value) in [("a", "1"), ("b", "2")] {
        let create = ["secret", "create", "--driver=file", "--driver-opts", &path, name, "-"];
        assert_eq!(host.podman.run(&create, value).code, 0);
        host.instance.driver(&["store", "--literal"]).id(&host.ids()[name]).stdin("another").ok();
    }
    let listed = host.instance.driver(&["list"]).text();
    let text = to_file(&host, &["--dry-run"]).text();
    assert!(
        text.contains("would remove psid's registration of a, which podman's file driver has"),
        "{text}"
    );
    assert_eq!(host.instance.driver(&["list"]).text(), listed);
    // The file driver lost the value of b.
    let values = host.podman.secrets_directory().join("filedriver/secretsdata.json");
    let mut left: Value = serde_json::from_slice(&fs::read(&values).unwrap()).unwrap();
    left.as_object_mut().unwrap().remove(&host.ids()["b"]);
    fs::write(&values, left.to_string()).unwrap();
    let outcome = to_file(&host, &["--yes"]).run();
    let text = outcome.stdout_text();
    assert!(text.contains("removed psid's registration of a,"), "{text}");
    assert!(
        text.contains(
            "kept psid's registration of b: podman's file driver does not have its value"
        ),
        "{text}"
    );
    assert_eq!(
        (outcome.code, host.instance.driver(&["list"]).text()),
        (1, format!("{}\n", host.ids()["b"]))
    );
}

#[test]
fn values_that_moved_back_can_be_taken_over_again() {
    let (host, values) = host();
    moved(&host, 0, &[]);
    host.instance.driver(&["lookup"]).id(id(1)).fails(66);
    let report = super::migrated(&host, "file", &["--remove-plaintext"]);
    assert_eq!(super::names(&report).len(), values.len(), "{report}");
    assert_eq!(directory_holds(&host.podman.secrets_directory(), b"aHVudGVyMi1wbGFpbg"), None);
    assert_eq!(host.lookup("plain"), "hunter2-plain");
}

/// Other users can read every argument and root every environment.
#[test]
fn values_are_in_the_file_driver_only() {
    let (host, _) = host();
    let trace = host.instance.directory().join("trace");
    let strace =
        format!("exec strace -f -v -s 4096 -e trace=execve,execveat -o {} \"$@\"", trace.display());
    let outcome = to_file(&host, &["--yes"]).through_shell(&strace);
    let output = outcome.stdout_text() + &outcome.stderr;
    assert_eq!(outcome.code, 0, "{output}");
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("podman"), "{trace}");
    for secret in ["hunter2", "aHVudGVyMi1wbGFpbg"] {
        assert!(!trace.contains(secret) && !output.contains(secret), "{trace}{output}");
    }
    let files = host.podman.secrets_directory().join("filedriver");
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
    };
    assert_eq!((mode(&files), mode(&files.join("secretsdata.json"))), (0o700, 0o600));
}
