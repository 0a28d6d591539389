//! The sources of an import: env-files, podman secrets and quadlets.

use std::fs;

use serde_json::json;

use super::fates;
use psi_harness::Host;
use psi_harness::{Driver, reference};

pub(crate) fn host() -> Host {
    Host::with_myapp(&json!({"THERE": "1"}))
}

pub(crate) fn import(host: &Host, source: &[&str]) -> Driver {
    let target = ["--project", "myproject", "--path", "/myapp", "--json"];
    host.driver(&[&["import"], source, &target[..]].concat())
}

#[track_caller]
pub(crate) fn given(host: &Host, key: &str) -> String {
    host.driver(&["cache", "refresh"]).ok();
    host.driver(&["get", &reference("/myapp", key)]).text()
}

/// The imported values are those that podman itself gives to a container.
#[test]
fn import_parses_env_files_like_podman() {
    let host = host();
    let file = host.instance.directory().join("app.env");
    let text =
        "# comment\n\n  A=one two\nQ=\"in quotes\"\nHASH=a#b\nEQ=a=b\nE=\n\tT=tab\r\nA=three\n";
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let outcome = import(&host, &["env-file", "--format", "podman", path]).run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("line 4 of "), "{}", outcome.stderr);
    let keys = ["A", "Q", "HASH", "EQ", "E", "T"];
    let script =
        format!("for k in {}; do eval \"printf %s \\\"\\$$k\\\"\" >/out/$k; done", keys.join(" "));
    let podman = host.podman.container(&["--env-file", path], &script);
    for key in keys {
        assert_eq!(given(&host, key).as_bytes(), podman[key], "{key}");
    }
    fs::write(&file, "A=1\n=hunter2\n").unwrap();
    let line = import(&host, &["env-file", "--format", "podman", path]).fails(65);
    assert!(line.contains("line 2 of ") && !line.contains("hunter2"), "{line}");
    assert_ne!(
        host.podman.run(&["run", "--rm", "--env-file", path, psi_harness::IMAGE], b"").code,
        0
    );
}

/// No line of the file reaches the provider, the terminal or the log, not even the base64 of the
/// last one.
#[test]
fn import_refuses_env_file_with_a_multiline_value() {
    let host = host();
    let file = host.instance.directory().join("app.env");
    let base64 = ["MC4CAQAwBQYDK2VwBCIEIEhunter2", "QWxsWW91ckJhc2VBcmVCZWxvbmdUb1Vz=="];
    let body = base64.join("\n");
    for (text, number) in [
        (
            format!(
                "FIRST=1\nKEY=\"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\"\n"
            ),
            2,
        ),
        (
            format!(
                "FIRST=1\nKEY=-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
            ),
            3,
        ),
        (format!("FIRST=1\n{}\n-----END PRIVATE KEY-----\n", base64[1]), 3),
    ] {
        fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();
        let outcome = import(&host, &["env-file", "--format", "podman", path]).run();
        assert_eq!((outcome.code, outcome.stdout.len()), (65, 0), "{}", outcome.stderr);
        let line = format!("line {number} of {}", file.display());
        assert!(outcome.stderr.contains(&line), "{}", outcome.stderr);
        for part in base64.iter().copied().chain(["BEGIN", "END"]) {
            assert!(!outcome.stderr.contains(&part[..3]), "{}", outcome.stderr);
        }
    }
    // The valid lines are not imported either.
    host.driver(&["cache", "refresh"]).ok();
    host.driver(&["get", &reference("/myapp", "FIRST")]).fails(66);
}

#[test]
fn import_reads_podman_secrets_through_their_driver() {
    let host = host();
    let directory = host.podman.secrets_directory().join("filedriver");
    let path = format!("--driver-opts=path={}", directory.display());
    let create = ["secret", "create", "--driver=file", &path, "in-clear", "-"];
    assert_eq!(host.podman.run(&create, "from the file").code, 0);
    host.podman.create("psi-s", "a literal");
    let report = import(&host, &["podman-secret", "in-clear=CLEAR", "psi-s"]).json();
    assert_eq!(fates(&report), ["created CLEAR", "created psi-s"]);
    assert_eq!(
        (given(&host, "CLEAR"), given(&host, "psi-s")),
        ("from the file".into(), "a literal".into())
    );
    let line = import(&host, &["podman-secret", "none"]).fails(66);
    assert!(line.contains("podman has no secret none"), "{line}");
}

/// Every value that is not at the provider already.
#[test]
fn import_all_podman_secrets_but_references() {
    let host = host();
    host.podman.create("literal", "of psid");
    host.podman.create("reference", reference("/myapp", "THERE"));
    let path = format!("path={}", host.podman.secrets_directory().join("filedriver").display());
    let create = ["secret", "create", "--driver=file", "--driver-opts", &path, "in-clear", "-"];
    assert_eq!(host.podman.run(&create, "from the file").code, 0);
    let outcome = import(&host, &["podman-secret", "--all"]).run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("1 reference of psi: not imported"), "{}", outcome.stderr);
    let report = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(fates(&report), ["created in-clear", "created literal"]);
    assert_eq!(given(&host, "literal"), "of psid");
    assert_eq!(import(&host, &["podman-secret", "--all", "literal"]).run().code, 2);
}

/// Syntax of `podman-systemd.unit(5)`, compared with the environment of the unit's own container.
#[test]
fn import_reads_variables_files_and_secrets_of_a_quadlet() {
    let host = host();
    host.podman.create("db--pw", "the password");
    let directory = host.instance.directory();
    fs::write(directory.join("app.env"), "FROM_FILE=1\nBOTH=file\n").unwrap();
    let unit = directory.join("app.container");
    let text = "[Unit]\nDescription=x\n[Container]\nImage=x\nEnvironmentFile=app.env\n\
        Environment=A=1 \"B=two words\" \\\n  BOTH=unit\nEnvironment=HOME_OF=%h/x PERCENT=100%%\n\
        Secret=db--pw,type=env,target=DB_PW\n[Service]\nEnvironment=NOT=1\n";
    fs::write(&unit, text).unwrap();
    let outcome = import(&host, &["quadlet", unit.to_str().unwrap()]).run();
    assert_eq!(outcome.code, 1, "HOME_OF is left out: {}", outcome.stderr);
    assert!(outcome.stderr.contains("HOME_OF of "), "{}", outcome.stderr);
    let report = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(
        fates(&report),
        [
            "created FROM_FILE",
            "created BOTH",
            "created A",
            "created B",
            "created PERCENT",
            "created DB_PW"
        ]
    );
    for (key, value) in
        [("B", "two words"), ("BOTH", "unit"), ("PERCENT", "100%"), ("DB_PW", "the password")]
    {
        assert_eq!(given(&host, key), value, "{key}");
    }
    // Afterwards the workload gets them from Infisical.
    assert!(host.set_up(&[])["workloads"][0]["created"].to_string().contains("myapp--DB_PW"));
}
