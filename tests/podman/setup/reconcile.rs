//! Changes that a setup makes, and those that it does not make.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};

use psi_harness::{Host, workload};
use psi_harness::{program, reference};

#[test]
fn setup_registers_listed_secrets_and_writes_the_drop_in() {
    let host = Host::with_myapp(&json!({"DB_HOST": "db.example", "DB_PW": "hunter2"}));
    let report = host.set_up(&[]);
    assert_eq!(report["podman_writes"], 2, "{report}");
    assert_eq!(report["workloads"][0]["created"], json!(["myapp--DB_HOST", "myapp--DB_PW"]));
    assert_eq!(host.lookup("myapp--DB_HOST"), "db.example");
    assert_eq!(host.lookup("myapp--DB_PW"), "hunter2");
    let options = host.podman.driver_options("myapp--DB_PW");
    assert!(options.len() == 4 && options["store"].ends_with("psi-driver store"), "{options:?}");
    let text = host.drop_in("myapp");
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "[Unit]",
            "Wants=psid.socket",
            "After=psid.socket psid.service",
            "[Container]",
            "Secret=myapp--DB_HOST,type=env,target=DB_HOST",
            "Secret=myapp--DB_PW,type=env,target=DB_PW",
        ]
    );
}

/// N18: the Python PSI removed and created every podman secret each hour, changed or not.
#[test]
fn n18_setup_without_change_writes_nothing_to_podman() {
    let host = Host::with_myapp(&json!({"A": "1", "B": "2"}));
    host.set_up(&[]);
    let (ids, record) = (host.ids(), host.record());
    let written = host.drop_in_path("myapp").metadata().unwrap().modified().unwrap();
    // A new value is no new secret.
    host.infisical.put("/myapp", "A", "3");
    let report = host.set_up(&[]);
    assert_eq!(
        (&report["podman_writes"], &report["psid_writes"]),
        (&json!(0), &json!(0)),
        "{report}"
    );
    assert_eq!((&report["drop_ins"], &report["reload"]), (&json!([]), &json!("not needed")));
    assert_eq!(host.record(), record);
    assert_eq!(host.ids(), ids);
    assert_eq!(host.drop_in_path("myapp").metadata().unwrap().modified().unwrap(), written);
    assert_eq!(host.lookup("myapp--A"), "3");
}

/// A registration with another source is corrected in psid under its id, without a write to podman.
#[test]
fn secret_with_another_source_keeps_its_id() {
    let mut host = Host::of(
        &json!({"/myapp": {"A": "mine", "B": "mine"}, "/shared": {"A": "shared", "C": "shared"}}),
        &workload("myapp", &[("/shared", false), ("/myapp", false)]),
    );
    host.set_up(&[]);
    let (ids, record) = (host.ids(), host.record());
    let found = |host: &Host| ["A", "B", "C"].map(|key| host.lookup(&format!("myapp--{key}")));
    assert_eq!(found(&host), ["mine", "mine", "shared"], "the later source wins");
    host.reconfigure(&workload("myapp", &[("/myapp", false), ("/shared", false)]));
    let report = host.set_up(&[]);
    assert_eq!(
        (&report["podman_writes"], &report["psid_writes"]),
        (&json!(0), &json!(1)),
        "{report}"
    );
    assert_eq!(report["workloads"][0]["repointed"], json!(["myapp--A"]));
    assert_eq!(found(&host), ["shared", "mine", "shared"]);
    assert_eq!((host.ids(), host.record()), (ids, record));
    // It was durable when it was acknowledged.
    host.psid.take().unwrap().crash();
    host.start_psid();
    assert_eq!(host.lookup("myapp--A"), "shared");
    assert_eq!(host.set_up(&[])["psid_writes"], 0);
}

/// A registered secret can be looked up at every moment of a setup: each of these setups changes
/// its source, podman's commands for it, and adds another secret.
#[test]
fn lookups_succeed_while_setup_replaces_the_secret() {
    let from = |path| workload("myapp", &[(path, false)]);
    let mut host = Host::of(&json!({"/a": {"K": "value"}, "/b": {"K": "value"}}), &from("/a"));
    host.set_up(&[]);
    let ids = host.ids();
    // The same program under another path.
    let link = host.instance.run().join("psi-driver");
    std::os::unix::fs::symlink(program("psi-driver"), &link).unwrap();
    let programs = [link, program("psi-driver")];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut inspect = host.podman.command(&["secret", "inspect", "myapp--K"]);
        let environment: Vec<_> =
            host.podman.environment().map(|(name, value)| (name, value.clone())).collect();
        let (id, done) = (&ids["myapp--K"], &done);
        let looks = scope.spawn(move || {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let known = inspect.output().unwrap();
                assert!(known.status.success(), "{}", String::from_utf8_lossy(&known.stderr));
                let known: Value = serde_json::from_slice(&known.stdout).unwrap();
                let lookup = known[0]["Spec"]["Driver"]["Options"]["lookup"].as_str().unwrap();
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", lookup]).env_clear().envs(environment.iter().cloned());
                let value = shell.env("SECRET_ID", id).output().unwrap();
                assert!(value.status.success(), "{}", String::from_utf8_lossy(&value.stderr));
                assert_eq!(value.stdout, b"value");
                looks += 1;
            }
            looks
        });
        for round in 0..20 {
            host.infisical.put("/a", &format!("NEW{round}"), "x");
            host.infisical.put("/b", &format!("NEW{round}"), "x");
            host.reconfigure(&from(["/b", "/a"][round % 2]));
            let report = host.setup_with(&programs[round % 2], &["--json", "--prune"]).json();
            assert_eq!(
                (&report["podman_writes"], &report["failed"]),
                (&json!(2), &json!({})),
                "{report}"
            );
        }
        done.store(true, Ordering::Relaxed);
        let looks = looks.join().unwrap();
        assert!(looks > 0);
        println!("{looks} lookups during 20 setups, and each was answered");
    });
    assert_eq!(host.ids()["myapp--K"], ids["myapp--K"]);
    let script = "test \"$(cat /run/secrets/myapp--K)\" = value";
    host.podman.container(&["--secret=myapp--K"], script);
}

#[test]
fn lost_secrets_are_registered_again_and_stale_commands_corrected() {
    let mut host = Host::with_myapp(&json!({"A": "1", "B": "2", "C": "3"}));
    host.set_up(&[]);
    let ids = host.ids();
    host.stop_psid();
    std::fs::remove_file(host.instance.state().join("secrets").join(&ids["myapp--A"])).unwrap();
    let record = host.podman.secrets_directory().join("secrets.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let present = program("psi-driver").display().to_string();
    // Commands of a psi-driver that was elsewhere, for all but one.
    let mut report: Value = serde_json::from_str(&text).unwrap();
    for name in ["myapp--B", "myapp--C"] {
        let options = &mut report["secrets"][&ids[name]]["driverOptions"];
        for command in options.as_object_mut().unwrap().values_mut() {
            *command = command.as_str().unwrap().replace(&present, "/opt/psi/psi-driver").into();
        }
    }
    std::fs::write(&record, report.to_string()).unwrap();
    host.start_psid();
    let classes = |report: &Value| {
        let classed = report["secrets"].as_array().unwrap().iter();
        classed.map(|secret| secret["class"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(classes(&host.dry_run(1)), ["orphaned", "stale options", "stale options"]);
    let report = host.set_up(&[]);
    assert_eq!(
        (&report["podman_writes"], &report["psid_writes"]),
        (&json!(1), &json!(1)),
        "{report}"
    );
    assert_eq!(host.ids(), ids);
    for (name, value) in [("myapp--A", "1"), ("myapp--B", "2"), ("myapp--C", "3")] {
        assert_eq!(host.lookup(name), value);
    }
    assert_eq!(classes(&host.dry_run(0)), ["managed"; 3]);
    host.podman.container(&["--secret=myapp--C"], "test \"$(cat /run/secrets/myapp--C)\" = 3");
}

#[test]
fn invalid_key_is_reported_and_the_others_registered() {
    let host = Host::with_myapp(&json!({
        "GOOD": "1", "not-a-variable": "2", "1st": "3", "with space": "4", "tls.pem": "5",
    }));
    let mut workloads = workload("myapp", &[("/myapp", false)]);
    workloads += "mount = [\"tls.pem\"]\n";
    let mut host = host;
    host.reconfigure(&workloads);
    let outcome = host.setup(&[]).run();
    assert_eq!(outcome.code, 65);
    let output = String::from_utf8(outcome.stdout).unwrap();
    for key in ["not-a-variable", "1st", "with space"] {
        assert!(output.contains(&format!("error: the key '{key}'")), "{output}");
    }
    assert!(outcome.stderr.contains("3 things were not done; everything else was"));
    assert_eq!(host.ids().into_keys().collect::<Vec<_>>(), ["myapp--GOOD", "myapp--tls.pem"]);
    let text = host.drop_in("myapp");
    assert!(text.contains("\nSecret=myapp--tls.pem,type=mount,target=tls.pem\n"), "{text}");
}

#[test]
fn value_invalid_for_a_variable_is_reported_with_the_remedy() {
    let big = "x".repeat(131_072);
    let mut host = Host::with_myapp(&json!({"NUL": "a\0b", "BIG": big, "FINE": "1"}));
    let outcome = host.setup(&[]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65, "{output}");
    for (key, why) in [("NUL", "holds a NUL"), ("BIG", "is over 128 KiB")] {
        let line = output.lines().find(|line| line.contains(&format!("error: {key}: "))).unwrap();
        assert!(line.contains(why) && line.contains(&format!("add \"{key}\" to mount")), "{line}");
    }
    assert_eq!(host.ids().into_keys().collect::<Vec<_>>(), ["myapp--FINE"]);
    let mut workloads = workload("myapp", &[("/myapp", false)]);
    workloads += "mount = [\"NUL\", \"BIG\"]\n";
    host.reconfigure(&workloads);
    let printed = host.setup(&[]).text();
    assert!(!printed.contains("error: ") && printed.contains("wrote "), "{printed}");
    let files = "cp /run/secrets/NUL /run/secrets/BIG /out/";
    let secrets =
        ["NUL", "BIG"].map(|key| format!("--secret=myapp--{key},type=mount,target={key}"));
    let found = host.podman.container(&[&secrets[0], &secrets[1]], files);
    assert_eq!((found["NUL"].as_slice(), found["BIG"].len()), (&b"a\0b"[..], 131_072));
}

#[test]
fn foreign_secrets_are_reported_and_kept() {
    let host = Host::with_myapp(&json!({"LITERAL": "1", "FILE": "2", "OTHER": "3", "MINE": "4"}));
    host.podman.create("myapp--LITERAL", "made by hand");
    host.podman.create("elsewhere", reference("/myapp", "MINE"));
    let create = |name: &str, driver: &[&str]| {
        let args = [&["secret", "create"], driver, &[name, "-"]].concat();
        assert_eq!(host.podman.run(&args, "theirs").code, 0);
    };
    let path = format!("--driver-opts=path={}", host.podman.secrets_directory().display());
    create("myapp--FILE", &["--driver=file", &path]);
    let options =
        "--driver-opts=lookup=exec echo theirs,store=exec cat,delete=exec true,list=exec true";
    create("myapp--OTHER", &["--driver=shell", options]);
    let ids = host.ids();
    let outcome = host.setup(&["--prune"]).run();
    assert_eq!(outcome.code, 65);
    let output = String::from_utf8(outcome.stdout).unwrap();
    for words in [
        "myapp--LITERAL is a literal",
        "myapp--FILE is a secret of podman's file driver",
        "myapp--OTHER belongs to another secret driver",
    ] {
        assert!(output.contains(&format!("error: {words}")), "{output}");
    }
    let now = host.ids();
    assert!(ids.iter().all(|(name, id)| now.get(name) == Some(id)), "{now:?}");
    assert_eq!(host.lookup("myapp--LITERAL"), "made by hand");
    assert_eq!(host.drop_in("myapp").matches("Secret=").count(), 1);
    let report = host.dry_run(1);
    let classes: Map<String, Value> = report["secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|secret| (secret["name"].as_str().unwrap().to_owned(), secret["class"].clone()))
        .collect();
    let expected = json!({
        "elsewhere": "managed", "myapp--LITERAL": "managed", "myapp--MINE": "managed",
        "myapp--OTHER": "foreign",
    });
    assert_eq!(Value::from(classes), expected);
}

/// Without psid, setup changes nothing and fails at once.
#[test]
fn setup_without_psid_changes_nothing() {
    let mut host = Host::with_myapp(&json!({"A": "1"}));
    host.stop_psid();
    let line = host.setup(&[]).fails(69);
    assert!(line.contains("no connection to psid"), "{line}");
    assert!(host.ids().is_empty());
}

/// N6: the Python PSI refused cached values when the provider had failed at the start. In an
/// outage, setup uses everything that is known.
#[test]
fn n6_setup_in_an_outage_uses_known_secrets_and_loses_nothing() {
    let mut host = Host::with_myapp(&json!({"A": "1", "B": "2"}));
    host.set_up(&[]);
    host.infisical.kill();
    let outcome = host.setup(&["--prune"]).run();
    assert_eq!(outcome.code, 75);
    assert!(outcome.stderr.contains("not every source answered: myproject:/myapp: "));
    assert_eq!(host.ids().len(), 2);
    let text = host.drop_in("myapp");
    host.podman.ok(&["secret", "rm", "myapp--A"]);
    host.stop_psid();
    host.start_psid();
    // And from the cache alone, after a reboot in the outage.
    let outcome = host.setup(&[]).run();
    assert_eq!(outcome.code, 75);
    assert_eq!(host.ids().len(), 2);
    assert_eq!(host.lookup("myapp--A"), "1");
    assert_eq!(host.drop_in("myapp"), text);
}
