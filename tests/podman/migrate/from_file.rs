//! Migration from podman's file driver.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{migrate, migrated, names};
use crate::setup::writes::Writes;
use psi_harness::directory_holds;
use psi_harness::{Host, workload};

/// Creates a secret of the file driver, as podman does without psi.
#[track_caller]
fn create(host: &Host, name: &str, value: &[u8]) {
    // In the default directory.
    let path = format!("path={}", host.podman.secrets_directory().join("filedriver").display());
    let create = ["secret", "create", "--driver=file", "--driver-opts", &path, name, "-"];
    let outcome = host.podman.run(&create, value);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

fn values() -> Vec<(String, Vec<u8>)> {
    let odd: [&[u8]; 5] = [
        b"hunter2-plain",
        b"line\r\nline\n\n",
        b"a\0\xff\xfe",
        b"{\"provider\":\"infisical\"}",
        b" ",
    ];
    let mut all: Vec<Vec<u8>> = odd.iter().map(|value| value.to_vec()).collect();
    all.push((0..511_999_u32).map(|byte| byte as u8).collect());
    all.into_iter().enumerate().map(|(number, value)| (format!("s{number}"), value)).collect()
}

/// The output of podman's lookup command.
#[track_caller]
fn looked_up(host: &Host, name: &str) -> Vec<u8> {
    let options = host.podman.driver_options(name);
    let outcome = host.podman.as_podman(&options["lookup"], &host.ids()[name], b"");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{name}");
    outcome.stdout
}

#[test]
fn migration_moves_every_value_by_id_and_name_byte_for_byte() {
    let host = Host::with_myapp(&json!({}));
    let values = values();
    for (name, value) in &values {
        create(&host, name, value);
    }
    let ids = host.ids();
    let secrets = host.podman.secrets_directory();
    let (record, clear) =
        (secrets.join("secrets.json"), secrets.join("filedriver/secretsdata.json"));
    let before = (fs::read(&record).unwrap(), fs::read(&clear).unwrap());

    let report = migrated(&host, "file", &["--dry-run"]);
    assert_eq!(names(&report).len(), values.len(), "{report}");
    assert_eq!((fs::read(&record).unwrap(), fs::read(&clear).unwrap()), before);
    assert_eq!(host.instance.driver(&["list"]).text(), "", "a dry run registers nothing");

    let writes = Writes::of(&host);
    let report = migrated(&host, "file", &[]);
    assert_eq!(names(&report).len(), values.len(), "{report}");
    assert_eq!(writes.count(), 1, "one for all");
    assert!(
        report["moved"].as_array().unwrap().iter().all(|one| one["compared"] == true),
        "{report}"
    );
    assert_eq!(host.ids(), ids, "ids and names are as they were");
    for (name, value) in &values {
        assert_eq!(&looked_up(&host, name), value, "{name}");
    }
    assert_eq!(fs::read(&clear).unwrap(), before.1, "nothing in clear goes without a word");
    let container: Vec<String> =
        values.iter().map(|(name, _)| format!("--secret={name}")).collect();
    let container: Vec<&str> = container.iter().map(String::as_str).collect();
    let found = host.podman.container(&container, "cp /run/secrets/* /out");
    for (name, value) in &values {
        assert_eq!(&found[name], value, "{name}");
    }

    let written = host.record();
    let text = migrate(&host, "file", &["--dry-run", "--remove-plaintext"]).text();
    assert!(text.contains("would remove 6 plaintext values"), "{text}");
    let text = migrate(&host, "file", &["--remove-plaintext"]).text();
    assert!(text.contains("removed 6 plaintext values"), "{text}");
    assert_eq!(host.record(), written, "what is done already is not done again");
    assert_eq!(directory_holds(&secrets, b"hunter2-plain"), None);
    assert_eq!(directory_holds(&secrets, b"aHVudGVyMi1wbGFpbg"), None, "in base64");
    for (name, value) in &values {
        assert_eq!(&looked_up(&host, name), value, "{name}");
    }
    assert_eq!(migrated(&host, "file", &[])["plaintext"][0]["served"], json!([]));
}

/// Meanwhile, containers start with a secret that is being moved and with one that was moved.
#[test]
fn containers_find_every_secret_during_a_migration() {
    let host = Host::with_myapp(&json!({}));
    let names: Vec<String> = (0..12).map(|number| format!("s{number}")).collect();
    for name in &names {
        create(&host, name, format!("value of {name}").as_bytes());
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let podman = &host.podman;
        let starts = scope.spawn(|| {
            let mut starts = 0;
            while !done.load(Ordering::Relaxed) {
                let secrets = ["--secret=s0", "--secret=s5", "--secret=s11,type=env,target=E"];
                let found =
                    podman.container(&secrets, "cp /run/secrets/* /out; printf %s \"$E\" >/out/e");
                assert_eq!(found["s0"], b"value of s0");
                assert_eq!(found["s5"], b"value of s5");
                assert_eq!(found["e"], b"value of s11");
                starts += 1;
            }
            starts
        });
        for name in &names {
            assert_eq!(super::names(&migrated(&host, "file", &[name])), [name.as_str()]);
        }
        done.store(true, Ordering::Relaxed);
        println!("{} starts while 12 secrets were moved", starts.join().unwrap());
    });
}

/// An interrupted migration is completed by a second run; a secret that psid has with another value
/// is unchanged.
#[test]
fn second_run_continues_an_interrupted_migration() {
    let host = Host::with_myapp(&json!({}));
    for name in ["a", "b", "c"] {
        create(&host, name, name.as_bytes());
    }
    let ids = host.ids();
    // The state after a run that ended before podman's record was written.
    host.instance.driver(&["store", "--literal"]).id(&ids["a"]).stdin("a").ok();
    host.instance.driver(&["store", "--literal"]).id(&ids["b"]).stdin("another").ok();
    let outcome = migrate(&host, "file", &[]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65, "{output}");
    assert!(output.contains("moved a: registered by a former run\n"), "{output}");
    assert!(output.contains("left b: psi has another value than the old store"), "{output}");
    assert!(output.contains("moved c: a literal, sealed by psid\n"), "{output}");
    // The remaining secret is unchanged.
    assert_eq!(host.podman.container(&["--secret=b"], "cp /run/secrets/* /out")["b"], b"b");
    assert_eq!((looked_up(&host, "a"), looked_up(&host, "c")), (b"a".to_vec(), b"c".to_vec()));
    host.instance.driver(&["delete"]).id(&ids["b"]).ok();
    assert_eq!(names(&migrated(&host, "file", &[])), ["b"]);
    assert!(
        migrate(&host, "file", &[])
            .text()
            .starts_with("podman's file driver has no secret to move\n")
    );
}

/// A workload's secret whose value the provider has too follows the provider from then on; a setup
/// changes nothing.
#[test]
fn value_known_to_the_provider_becomes_a_reference() {
    let host = Host::of(
        &json!({"/myapp": {"SAME": "1", "OTHER": "new"}}),
        &workload("myapp", &[("/myapp", false)]),
    );
    create(&host, "myapp--SAME", b"1");
    create(&host, "myapp--OTHER", b"old");
    let report = migrated(&host, "file", &[]);
    let to = |number: usize| report["moved"][number]["to"].as_str().unwrap().to_owned();
    assert_eq!(
        (to(0), report["moved"][0]["name"].as_str()),
        ("a literal, sealed by psid".into(), Some("myapp--OTHER"))
    );
    assert!(to(1).starts_with("a reference to myproject:/myapp"), "{report}");
    assert_eq!(
        (looked_up(&host, "myapp--SAME"), looked_up(&host, "myapp--OTHER")),
        (b"1".to_vec(), b"old".to_vec())
    );
    let outcome = host.setup(&[]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert!(
        output.contains("1 unchanged") && output.contains("myapp--OTHER is a literal"),
        "{output}"
    );
}

/// Without a key, without psid, or with a missing psi-driver: podman's record is unchanged.
#[test]
fn unresolvable_secret_is_not_migrated() {
    let mut host = Host::with_myapp(&json!({}));
    create(&host, "a", b"1");
    let written = host.record();
    let nowhere =
        host.driver(&["migrate", "--from", "file", "--program", "/opt/psi/psi-driver"]).run();
    let output = String::from_utf8(nowhere.stdout).unwrap();
    assert_eq!(nowhere.code, 65);
    assert!(output.contains("left a: its lookup through psi fails: "), "{output}");
    assert!(migrate(&host, "file", &["b"]).fails(66).contains("podman has no secret b"));
    host.stop_psid();
    migrate(&host, "file", &[]).fails(69);
    host.instance.configure(&psi_harness::Config::of(&host.infisical).without_backend());
    host.start_psid();
    let line = migrate(&host, "file", &[]).fails(65);
    assert!(line.contains("psid has no key to seal values with; set backend"), "{line}");
    assert_eq!(host.record(), written);
}

/// `podman secret create --replace` leaves the old value in plaintext. Once the secret is psi's, gc
/// removes the plaintext if psi serves the same value, and only then.
#[test]
fn plaintext_value_that_psi_does_not_serve_is_kept() {
    let host = Host::with_myapp(&json!({}));
    create(&host, "a", b"hunter2-a");
    create(&host, "b", b"hunter2-b");
    let ids = host.ids();
    migrated(&host, "file", &[]);
    host.instance.driver(&["delete"]).id(&ids["b"]).ok();
    let outcome = migrate(&host, "file", &["--remove-plaintext"]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65, "{output}");
    assert!(
        output.contains("removed 1 plaintext value")
            && output.contains("left the plaintext value of b in"),
        "{output}"
    );
    let outcome = host.driver(&["gc", "--remove-plaintext"]).run();
    let printed = String::from_utf8(outcome.stdout).unwrap();
    assert!(outcome.code == 1 && printed.contains("kept the plaintext value of b"), "{printed}");
    assert!(directory_holds(&host.podman.secrets_directory(), b"aHVudGVyMi1i").is_some());
    let output = host.driver(&["restore", &ids["b"]]).text();
    assert_eq!(output, "restored; podman still has it, as b\n");
    let output = host.driver(&["gc"]).text();
    assert!(output.contains("removed 1 plaintext value"), "{output}");
    assert_eq!(directory_holds(&host.podman.secrets_directory(), b"aHVudGVyMi1i"), None);
}

/// The driver option `path=` names another directory, and podman's record loses it when the secret
/// becomes psi's.
#[test]
fn plaintext_in_another_directory_is_reported() {
    let host = Host::with_myapp(&json!({}));
    let elsewhere = host.instance.directory().join("elsewhere");
    let clear = elsewhere.join("secretsdata.json");
    let create_there = |name: &str, value: &[u8]| {
        let path = format!("path={}", elsewhere.display());
        let create = ["secret", "create", "--driver=file", "--driver-opts", &path, name, "-"];
        assert_eq!(host.podman.run(&create, value).code, 0);
    };
    let in_clear = || fs::read_to_string(&clear).unwrap();
    create(&host, "a", b"hunter2-a");
    create_there("b", b"hunter2-b");
    let output = migrate(&host, "file", &["--remove-plaintext"]).text();
    assert!(
        output.contains(&format!("removed 1 plaintext value from {}", clear.display())),
        "{output}"
    );
    assert_eq!((in_clear().as_str(), looked_up(&host, "b")), ("{}", b"hunter2-b".to_vec()));
    assert_eq!(directory_holds(&host.podman.secrets_directory(), b"aHVudGVyMi"), None);

    // Later, and by the option `--plaintext` alone.
    create_there("c", b"hunter2-c");
    create_there("d", b"hunter2-d");
    let printed = migrate(&host, "file", &["c"]).text();
    let hint = format!("--remove-plaintext --plaintext {}\n", elsewhere.display());
    assert!(printed.ends_with(&hint), "{printed}");
    migrate(&host, "file", &["d"]).ok();
    let args: Vec<&str> = hint.trim_end().split(' ').collect();
    let output = migrate(&host, "file", &args).text();
    assert!(
        output.contains(&format!("removed 2 plaintext values from {}", clear.display())),
        "{output}"
    );
    assert_eq!((in_clear().as_str(), looked_up(&host, "c")), ("{}", b"hunter2-c".to_vec()));
}

/// Other users can read every argument and root every environment.
#[test]
fn no_value_is_in_arguments_environment_or_messages() {
    let host = Host::with_myapp(&json!({}));
    create(&host, "a", b"hunter2-plain");
    let trace = host.instance.directory().join("trace");
    let strace =
        format!("exec strace -f -v -s 4096 -e trace=execve,execveat -o {} \"$@\"", trace.display());
    let outcome = migrate(&host, "file", &["--remove-plaintext"]).through_shell(&strace);
    let output = String::from_utf8(outcome.stdout).unwrap() + &outcome.stderr;
    assert_eq!(outcome.code, 0, "{output}");
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("psi-driver lookup"), "{trace}");
    for secret in ["hunter2", "aHVudGVyMi1wbGFpbg"] {
        assert!(!trace.contains(secret) && !output.contains(secret), "{trace}{output}");
    }
}
