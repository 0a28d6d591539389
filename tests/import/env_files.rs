//! Env-files of Docker Compose and `.env` files; `tests/fuzz/targets/tests/dialects.rs` compares the parsers with more files.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::sources::{given, host, import};
use super::{fates, instance, value};

const TEXT: &str = "\u{feff}# c\r\nPLAIN=two words # c\r\nexport HASH=a#b\nSINGLE='pa$word \\n'\n\
    DOUBLE=\"line 1\\nline 2 \\\"x\\\"\" # c\nKEY='-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIE==\n\
    -----END PRIVATE KEY-----'\nURL=postgres://${USER_OF:-app}:${HASH}@db/$PLAIN\nDOLLAR=a$$b\nYAML: x\n";

/// The imported values are those that Compose itself gives to a service.
#[test]
fn import_parses_env_files_like_compose() {
    let host = host();
    let directory = host.instance.directory();
    fs::write(directory.join("app.env"), TEXT).unwrap();
    let path = directory.join("app.env");
    let report = import(&host, &["env-file", path.to_str().unwrap()]).json();
    let service =
        json!({"name": "x", "services": {"app": {"image": "x", "env_file": ["app.env"]}}});
    fs::write(directory.join("compose.json"), service.to_string()).unwrap();
    let program = psi_harness::target_directory().join("tools/docker-compose");
    let mut compose = Command::new(program);
    compose.env_clear().arg("-f").arg(directory.join("compose.json"));
    compose.args(["config", "--format", "json"]);
    let outcome = psi_harness::run(compose, b"");
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let printed: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let environment = printed["services"]["app"]["environment"].as_object().unwrap();
    let variables: BTreeMap<&str, String> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap().replace("$$", "$")))
        .collect();
    assert_eq!(fates(&report).len(), variables.len());
    for (name, value) in variables {
        assert_eq!(given(&host, name), value, "{name}");
    }
    assert_eq!(given(&host, "URL"), "postgres://app:a#b@db/two words");
}

/// A password would be cut short, or have another program's environment in it. The text is not shown.
#[test]
fn import_refuses_env_files_whose_values_are_not_in_them() {
    let host = host();
    let path = host.instance.directory().join("app.env");
    for (format, text, number, why) in [
        ("compose", "A=1\nB=hunter2$word\n", 2, "refers to a variable by $"),
        ("compose", "A=1\n\nHOME\n", 3, "is no assignment"),
        ("compose", "A=\"hunter2\nB=1\n", 1, "begins a value in quotes that do not end"),
        ("dotenv", "A=hunter2#x\n", 1, "has a # in a value without quotes"),
        ("dotenv", "A='x'\nB='hunter2${HOME}'\n", 2, "has a ${"),
        ("podman", "A=1\nHOME\n", 2, "is no assignment"),
    ] {
        fs::write(&path, text).unwrap();
        let call = import(&host, &["env-file", "--format", format, path.to_str().unwrap()]);
        let line = call.env("word", "of-psictl").env("HOME", "/of-psictl").fails(65);
        assert!(line.contains(&format!("line {number} of {}", path.display())), "{line}");
        assert!(line.contains(why), "{line}");
        for part in ["hunter2", "word", "of-psictl", "HOME"] {
            assert!(!line.contains(part), "{line}");
        }
    }
}

#[test]
fn import_parses_dot_env_files() {
    let (_infisical, instance, _psid) = instance(&json!({"/app": {}}), &[]);
    let text = "# c\nexport A='pa$word #1'\nB=\"a\\nb\"\nC=two words # c\nD=$1\n";
    let args = ["import", "env-file", "-", "--project", "myproject", "--path", "/app"];
    let args = [&args[..], &["--format", "dotenv", "--json"]].concat();
    let report = instance.driver(&args).stdin(text).json();
    assert_eq!(fates(&report), ["created A", "created B", "created C", "created D"]);
    for (key, expected) in [("A", "pa$word #1"), ("B", "a\nb"), ("C", "two words"), ("D", "$1")] {
        assert_eq!(value(&instance, key), expected, "{key}");
    }
}
