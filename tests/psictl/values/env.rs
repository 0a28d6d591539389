//! `psictl env`.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;

use super::myapp;

const ODD: &str = " it's \"x\" $HOME `id` \\ # ";

/// The shell, podman's rules and JSON give back the values.
#[test]
fn env_prints_variables_for_each_format() {
    let (_infisical, instance, _psid) = myapp(&json!({"PLAIN": "1", "ODD": ODD, "EMPTY": ""}));
    let env = |format: &str| instance.driver(&["env", "--format", format]).run();
    let expected = format!("EMPTY=\nODD={ODD}\nPLAIN=1\n");
    assert_eq!(env("env").stdout_text(), expected);
    assert_eq!(instance.driver(&["env", "-w", "myapp"]).run().stdout_text(), expected);
    let json: BTreeMap<String, String> = serde_json::from_slice(&env("json").stdout).unwrap();
    assert_eq!(json, BTreeMap::from([("EMPTY", ""), ("ODD", ODD), ("PLAIN", "1")].map(own)));
    for shell in ["dash", "bash"] {
        let script = "eval \"$1\"; printf '%s|%s|%s' \"$PLAIN\" \"$ODD\" \"${EMPTY-unset}\"; env -0 >/dev/null";
        let mut command = Command::new(shell);
        command.args(["-c", script, shell]).arg(env("export").stdout_text());
        assert_eq!(psi_harness::run(command, b"").stdout_text(), format!("1|{ODD}|"), "{shell}");
    }
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Nothing is printed: a file of some of the variables would look complete.
#[test]
fn env_refuses_by_name_what_a_format_cannot_hold() {
    let (infisical, instance, _psid) = myapp(&json!({"A": "1", "LINES": "a\nb"}));
    let env = |args: &[&str]| instance.driver(&[&["env"], args].concat());
    let line = env(&[]).fails(65);
    assert!(line.contains("the value of LINES has a line end"), "{line}");
    assert_eq!(env(&[]).run().stdout_text(), "");
    assert_eq!(env(&["--format", "export"]).text(), "export A='1'\nexport LINES='a\nb'\n");
    env(&["--format", "json"]).ok();
    for (key, value, why) in [
        ("NUL", "a\0b", "the value of NUL contains a NUL"),
        ("HUGE", &*"x".repeat(131_072), "the value of HUGE is over 128 KiB"),
        ("no-variable", "1", "'no-variable'"),
        (".dockerconfigjson", "{}", "'.dockerconfigjson'"),
        (
            "LD_PRELOAD",
            "/x",
            "LD_PRELOAD of the workload myapp chooses what a program loads or runs",
        ),
    ] {
        infisical.put("/myapp", key, value);
        instance.driver(&["cache", "refresh"]).ok();
        let outcome = env(&["--format", "export"]).run();
        assert_eq!((outcome.code, outcome.stdout.len()), (65, 0), "{key}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(why), "{key}: {}", outcome.stderr);
        if key != "LD_PRELOAD" {
            infisical.remove("/myapp", key);
        }
    }
    let allowed = env(&["--format", "export", "--allow", "LD_PRELOAD"]).text();
    assert!(allowed.contains("export LD_PRELOAD='/x'"), "{allowed}");
}

/// As for any other call: the kernel names the caller, and the config decides.
#[test]
fn env_is_refused_to_a_user_without_a_workload() {
    let (_infisical, instance, _psid) = myapp(&json!({"A": "hunter2"}));
    let outcome = instance.driver(&["env"]).user(&instance, 1234, 1234).run();
    assert_eq!((outcome.code, outcome.stdout.len()), (77, 0), "{}", outcome.stderr);
}
