//! Writes of psid to the provider, and their failures.

use serde_json::{Value, json};

use super::{fates, import, instance, value};
use psi_harness::{Config, FakeInfisical, Instance, reference};

const BATCH: &str = "/api/v4/secrets/batch";

#[test]
fn import_creates_new_keys_in_one_request_and_is_idempotent() {
    let (infisical, instance, psid) = instance(&json!({"/app": {"THERE": "same"}}), &[]);
    let text = "A=hunter2-one\nTHERE=same\nB=line \"quoted\" ä\n";
    let report = import(&instance, text, &["--dry-run", "--json"]).json();
    assert_eq!(fates(&report), ["created A", "unchanged THERE", "created B"]);
    assert_eq!((&report["written"], infisical.count("POST", BATCH)), (&json!(false), 0));
    let report = import(&instance, text, &["--json"]).json();
    assert_eq!(fates(&report), ["created A", "unchanged THERE", "created B"]);
    assert_eq!((&report["written"], &report["target"]), (&json!(true), &json!("myproject:/app")));
    assert_eq!((infisical.count("POST", BATCH), infisical.count("PATCH", BATCH)), (1, 0));
    assert_eq!(value(&instance, "A"), "hunter2-one");
    assert_eq!(value(&instance, "B"), "line \"quoted\" ä");
    let report = import(&instance, text, &["--json"]).json();
    assert_eq!(fates(&report), ["unchanged A", "unchanged THERE", "unchanged B"]);
    assert_eq!(infisical.count("POST", BATCH), 1);
    // A value is in the bodies that go to Infisical, and nowhere else that persists.
    for request in infisical.log() {
        assert!(!request.text("target").contains("hunter2"), "{request:?}");
    }
    let log = psid.terminate();
    assert!(!log.contains("hunter2"), "{log}");
    assert_eq!(psi_harness::directory_holds(&instance.state(), b"hunter2-one"), None);
}

#[test]
fn import_handles_a_conflicting_value_by_option() {
    let (infisical, instance, _psid) = instance(&json!({"/app": {"A": "old", "C": "same"}}), &[]);
    let text = "A=new\nB=2\nC=same\n";
    let outcome = import(&instance, text, &[]).run();
    let output = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65);
    assert!(
        output.contains("conflicting A\n") && output.contains("would be created B\n"),
        "{output}"
    );
    assert!(
        outcome.stderr.contains("nothing was written; choose --conflict skip"),
        "{}",
        outcome.stderr
    );
    assert_eq!(infisical.count("POST", BATCH), 0, "one conflict, and nothing is written");
    let report = import(&instance, text, &["--conflict", "skip", "--json"]).json();
    assert_eq!(fates(&report), ["skipped A", "created B", "unchanged C"]);
    assert_eq!((value(&instance, "A"), value(&instance, "B")), ("old".into(), "2".into()));
    let report = import(&instance, text, &["--conflict", "overwrite", "--json"]).json();
    assert_eq!(fates(&report), ["overwritten A", "unchanged B", "unchanged C"]);
    assert_eq!(value(&instance, "A"), "new");
    assert_eq!((infisical.count("POST", BATCH), infisical.count("PATCH", BATCH)), (1, 1));
}

#[test]
fn import_writes_in_every_dialect() {
    for dialect in ["v3-only", "v4-2025", "v4-2026"] {
        let options = ["--dialect", dialect];
        let (_infisical, instance, _psid) = instance(&json!({"/app": {"A": "old"}}), &options);
        let report =
            import(&instance, "A=new\nB=2\n", &["--conflict", "overwrite", "--json"]).json();
        assert_eq!(fates(&report), ["overwritten A", "created B"], "{dialect}");
        assert_eq!((value(&instance, "A"), value(&instance, "B")), ("new".into(), "2".into()));
    }
}

/// The server trims values, keeps text only, and rejects some names. Values that it would change
/// are refused by key; the rest is imported.
#[test]
fn import_refuses_values_that_infisical_alters_and_imports_the_rest() {
    let (_infisical, instance, _psid) = instance(&json!({"/app": {"X": "x"}}), &[]);
    let text = b"GOOD=1\nBLANK= x\nTAIL=x \nBYTES=\xff\nEMPTY=\nREF=a${X}b\n";
    let outcome = import(&instance, text, &["--json"]).run();
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65);
    assert_eq!(
        fates(&report),
        [
            "created GOOD",
            "rejected BLANK",
            "rejected TAIL",
            "rejected BYTES",
            "created EMPTY",
            "created REF"
        ]
    );
    assert!(outcome.stderr.contains("3 of 6 were not imported"), "{}", outcome.stderr);
    assert!(report["secrets"][5]["reason"].as_str().unwrap().contains("may expand"), "{report}");
    assert_eq!((value(&instance, "GOOD"), value(&instance, "EMPTY")), ("1".into(), String::new()));
}

#[test]
fn import_splits_many_and_large_secrets_into_accepted_requests() {
    let (infisical, instance, _psid) = instance(&json!({"/app": {}}), &[]);
    let many: String = (0..500).map(|number| format!("K{number}=value {number}\n")).collect();
    let report = import(&instance, many, &["--json"]).json();
    assert!(fates(&report).iter().all(|fate| fate.starts_with("created ")), "{report}");
    assert_eq!(infisical.count("POST", BATCH), 5, "100 a request");
    infisical.clear_log();
    let large: String =
        (0..4).map(|number| format!("L{number}={}\n", "\\".repeat(300_000 + number))).collect();
    let report = import(&instance, large, &["--json"]).json();
    assert_eq!(fates(&report), ["created L0", "created L1", "created L2", "created L3"]);
    assert_eq!(infisical.count("POST", BATCH), 4, "a backslash is two bytes in JSON");
    assert_eq!(value(&instance, "L3").len(), 300_003);
    let outcome = import(&instance, format!("L4={}\n", "\\".repeat(500_000)), &[]).run();
    assert_eq!(outcome.code, 65);
    assert!(String::from_utf8(outcome.stdout).unwrap().contains("rejected L4: it is longer than"));
}

#[test]
fn provider_refusal_is_reported_verbatim() {
    let (infisical, instance, _psid) = instance(&json!({"/app": {"A": "old"}}), &[]);
    let none =
        instance.driver(&["import", "env-file", "-", "--project", "myproject", "--path", "/none"]);
    let line = none.stdin("B=1\n").fails(66);
    assert!(line.contains("make myproject:/none with --make-folder"), "{line}");
    let other = ["--environment", "staging"];
    assert!(import(&instance, "B=1\n", &other).fails(66).contains("myproject:staging:/app"));
    let line = instance
        .driver(&["import", "env-file", "-", "--project", "x", "--path", "/"])
        .stdin("B=1\n")
        .fails(65);
    assert!(line.contains("the config has no [providers.infisical.projects.x]"), "{line}");
    let rule = |write| json!([{"environment": "*", "pathPrefix": "/", "describe": true, "read": true, "write": write}]);
    infisical.permit(&rule(false));
    let outcome = import(&instance, "B=hunter2\n", &["--json"]).run();
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!((outcome.code, fates(&report)), (65, vec!["failed B".to_owned()]));
    assert!(report["secrets"][0]["reason"].as_str().unwrap().contains("403"), "{report}");
    infisical.permit(&json!([]));
    import(&instance, "B=1\n", &[]).fails(77);
    infisical.permit(&Value::Null);
    assert_eq!(fates(&import(&instance, "B=1\n", &["--json"]).json()), ["created B"]);
}

/// A failed write affects its own secrets only, and a second run completes the import.
#[test]
fn outage_during_import_is_reported_and_completed_by_a_second_run() {
    let (mut infisical, instance, _psid) = instance(&json!({"/app": {"A": "old"}}), &[]);
    // Maintenance: reads succeed and writes fail.
    infisical.faults(&json!([{"match": {"method": "PATCH"}, "fault": {"kind": "html-502"}}]));
    let text = "A=new\nB=2\n";
    let outcome = import(&instance, text, &["--conflict", "overwrite", "--json"]).run();
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(
        (outcome.code, fates(&report)),
        (65, vec!["failed A".to_owned(), "created B".to_owned()])
    );
    infisical.heal();
    let report = import(&instance, text, &["--conflict", "overwrite", "--json"]).json();
    assert_eq!(fates(&report), ["overwritten A", "unchanged B"]);
    infisical.kill();
    let line = import(&instance, "C=3\n", &[]).fails(75);
    assert!(line.contains("nothing was imported, because infisical cannot be reached: "), "{line}");
}

/// A successful answer does not prove that the server stored the value.
#[test]
fn value_changed_by_the_server_is_reported() {
    let (infisical, instance, _psid) = instance(&json!({"/app": {}}), &[]);
    // Another client writes between psid's write and its comparison.
    infisical.faults(&json!([{"match": {"method": "POST", "pathPrefix": BATCH}, "fault": {"kind": "delay", "ms": 700}}]));
    let report = std::thread::scope(|scope| {
        let import = scope.spawn(|| import(&instance, "A=mine\n", &["--json"]).run());
        infisical.await_count("POST", BATCH, 1);
        infisical.put("/app", "A", "theirs");
        import.join().unwrap()
    });
    let outcome: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!((report.code, fates(&outcome)), (65, vec!["failed A".to_owned()]), "{outcome}");
}

#[test]
fn missing_writable_provider_is_reported() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    std::fs::write(instance.config(), "[cache]\n").unwrap();
    let _psid = instance.start();
    let _ = Config::of(&infisical);
    let line = import(&instance, "A=1\n", &[]).fails(65);
    assert!(
        line.contains("no provider that secrets can be written to; add [providers.infisical]"),
        "{line}"
    );
    let line = import(&instance, "# nothing\n", &[]).fails(65);
    assert!(line.contains("the sources have no entry to import"), "{line}");
}

#[test]
fn missing_directory_is_created_on_request() {
    for dialect in ["v3-only", "v4-2026"] {
        let (infisical, instance, _psid) =
            instance(&json!({"/app": {"A": "1"}}), &["--dialect", dialect]);
        let place =
            ["--project", "myproject", "--path", "app/new//deep/", "--make-folder", "--json"];
        let import = |more: &[&str]| {
            let args = [&["import", "env-file", "-"], &place[..], more].concat();
            instance.driver(&args).stdin("A=2\n").json()
        };
        assert_eq!(fates(&import(&["--dry-run"])), ["created A"]);
        assert_eq!(infisical.count("POST", "/api/v2/folders"), 0, "a dry run makes nothing");
        assert_eq!(fates(&import(&[])), ["created A"], "{dialect}");
        assert_eq!(fates(&import(&[])), ["unchanged A"]);
        assert_eq!(instance.driver(&["get", &reference("/app/new/deep", "A")]).text(), "2");
        assert_eq!(value(&instance, "A"), "1");
    }
    let (_infisical, instance, _psid) = instance(&json!({"/app": {}}), &[]);
    let odd =
        ["import", "env-file", "-", "--project", "myproject", "--path", "/a b", "--make-folder"];
    let line = instance.driver(&odd).stdin("A=1\n").fails(65);
    assert!(line.contains("infisical refuses the request"), "{line}");
}

/// Other users can read every argument and root every environment.
#[test]
fn import_exposes_no_value_in_arguments_or_environment() {
    let (_infisical, instance, _psid) = instance(&json!({"/app": {}}), &[]);
    let trace = instance.directory().join("trace");
    let strace =
        format!("exec strace -f -v -s 4096 -e trace=execve,execveat -o {} \"$@\"", trace.display());
    let import =
        import(&instance, "A=hunter2-one\n", &[]).env("PATH", std::env::var_os("PATH").unwrap());
    let outcome = import.through_shell(&strace);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let trace = std::fs::read_to_string(trace).unwrap();
    assert!(trace.contains("execve(") && !trace.contains("hunter2"), "{trace}");
    assert!(!String::from_utf8(outcome.stdout).unwrap().contains("hunter2"));
}

/// The comparison uses the written text, not the resolved reference.
#[test]
fn second_import_of_references_writes_nothing() {
    for dialect in ["v3-only", "v4-2025", "v4-2026"] {
        let (infisical, instance, _psid) =
            instance(&json!({"/app": {"X": "x"}}), &["--dialect", dialect]);
        let text = "REF=a${X}b\nNOWHERE=http://${gone}/x\nACROSS=${prod.app.X}\nX=x\n";
        let report = import(&instance, text, &["--json"]).json();
        assert_eq!(
            fates(&report),
            ["created REF", "created NOWHERE", "created ACROSS", "unchanged X"],
            "{dialect}"
        );
        infisical.clear_log();
        let report = import(&instance, text, &["--json", "--conflict", "overwrite"]).json();
        let unchanged = ["REF", "NOWHERE", "ACROSS", "X"].map(|key| format!("unchanged {key}"));
        assert_eq!(fates(&report), unchanged, "{dialect}");
        let writes =
            infisical.log().iter().filter(|request| request.text("method") != "GET").count();
        assert_eq!(writes, 0, "{dialect}");
        assert_eq!(value(&instance, "REF"), "axb");
    }
}

/// In v3, `/raw/batch` is the secret named "batch".
#[test]
fn import_by_v3_does_not_write_to_a_secret_named_batch() {
    let options = ["--dialect", "v3-only"];
    let (infisical, instance, _psid) =
        instance(&json!({"/app": {"batch": "another secret", "A": "1"}}), &options);
    let report = import(&instance, "A=2\nB=3\n", &["--json", "--conflict", "overwrite"]).json();
    assert_eq!(fates(&report), ["overwritten A", "created B"]);
    assert_eq!(value(&instance, "batch"), "another secret");
    assert_eq!((value(&instance, "A"), value(&instance, "B")), ("2".into(), "3".into()));
    assert_eq!(infisical.count("PATCH", "/api/v3/secrets/raw/batch"), 0);
    assert_eq!(infisical.count("PATCH", "/api/v3/secrets/batch/raw"), 1);
}

/// The server answers such a key with 500, and the whole batch too.
#[test]
fn import_refuses_an_invalid_key_before_sending_it() {
    let (infisical, instance, _psid) = instance(&json!({"/app": {}}), &[]);
    let text = format!("GOOD=1\n{}=1\n", "K".repeat(2_701));
    let outcome = import(&instance, &text, &["--json"]).run();
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(outcome.code, 65);
    assert_eq!(fates(&report)[0], "created GOOD");
    assert!(fates(&report)[1].starts_with("rejected KKK"), "{report}");
    for request in infisical.log() {
        assert!(request.0["status"].as_u64().unwrap() < 500, "{request:?}");
    }
}
