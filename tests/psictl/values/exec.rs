//! `psictl exec`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use psi_harness::{Config, Instance, reference, workload};

use super::{instance, myapp, names, ram, stdout};

#[test]
fn exec_adds_only_the_secrets_to_the_environment() {
    let (mut infisical, instance, _psid) = myapp(&json!({"A": "1\n", "B": "ä 'x'"}));
    let script = "printf '%s|%s|%s|%s' \"$A\" \"$B\" \"$MINE\" \"$*\"; exit 7";
    let call = instance.driver(&["exec", "--", "/bin/sh", "-c", script, "sh", "--dry-run", "x"]);
    let outcome = call.env("MINE", "kept").run();
    assert_eq!(outcome.code, 7, "it is the command's own: {}", outcome.stderr);
    assert_eq!(String::from_utf8(outcome.stdout).unwrap(), "1\n|ä 'x'|kept|--dry-run x");
    assert_eq!(outcome.stderr, "");
    // From RAM, and in an outage.
    infisical.kill();
    let call = instance.driver(&[
        "exec",
        "--workload",
        "myapp",
        "--",
        "/bin/sh",
        "-c",
        "printf %s \"$A\"",
    ]);
    assert_eq!(call.run().stdout, b"1\n");
}

#[test]
fn exec_requires_a_workload_name_if_there_are_several() {
    let both = workload("one", &[("/one", false)]) + &workload("two", &[("/two", false)]);
    let (_infisical, instance, _psid) =
        instance(&json!({"/one": {"A": "one", "B": "one"}, "/two": {"A": "two"}}), &both);
    let show = ["--", "/bin/sh", "-c", "printf %s,%s \"$A\" \"$B\""];
    let exec = |options: &[&str]| instance.driver(&[&["exec"], options, &show[..]].concat());
    assert!(exec(&[]).fails(2).contains("the config has several workloads: one, two"));
    assert!(exec(&["-w", "three"]).fails(65).contains("no workload three; it has one, two"));
    assert_eq!(exec(&["-w", "one"]).text(), "one,one");
    assert_eq!(exec(&["-w", "one", "-w", "two"]).text(), "two,one");
}

/// The program would run without it, and nobody would know.
#[test]
fn exec_runs_nothing_without_a_key_that_no_variable_can_carry() {
    let (_infisical, instance, _psid) = myapp(&json!({"A": "1", "no-variable": "3"}));
    let marker = instance.directory().join("ran");
    let touch = ["exec", "--", "/usr/bin/touch", marker.to_str().unwrap()];
    let line = instance.driver(&touch).fails(65);
    assert!(line.contains("'no-variable'"), "{line}");
    assert!(!marker.exists());
}

/// The exit status of shells, before any secret is requested.
#[test]
fn exec_of_an_unrunnable_command_has_a_shells_status() {
    let instance = Instance::empty();
    let plain = instance.directory().join("plain");
    fs::write(&plain, "no program").unwrap();
    let exec = |program: &str| instance.driver(&["exec", "--", program]);
    let line = exec("/nonexistent").fails(127);
    assert!(line.contains("running /nonexistent: No such file"), "{line}");
    let line = exec("no-such-program").env("PATH", "/bin:/usr/bin").fails(127);
    assert!(line.contains("the program no-such-program is not in PATH"), "{line}");
    exec(plain.to_str().unwrap()).fails(126);
    exec("/etc").fails(126);
}

/// env(1) and sh(1) are asked for each case: a missing program is 127 and one that cannot run is 126.
#[test]
fn exec_ends_with_the_status_of_env_and_of_sh() {
    let instance = Instance::empty();
    let directory = tempfile::Builder::new().prefix("psi-").tempdir_in("/tmp").unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text, mode) in [
        ("plain", "no program", 0o644),
        ("mine", "#!/bin/sh\nexit 3\n", 0o700),
        ("runs", "#!/bin/sh\nexit 4\n", 0o755),
        ("interpreter", "#!/nonexistent\n", 0o755),
    ] {
        fs::write(path(name), text).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(path("other")).unwrap();
    fs::write(path("other/mine"), "#!/bin/sh\nexit 5\n").unwrap();
    fs::set_permissions(path("other/mine"), fs::Permissions::from_mode(0o755)).unwrap();
    let search = format!("{}:{}:/usr/bin:/bin", directory.path().display(), path("other"));
    let oracles = |program: &str, expected: i32| {
        let oracles: [&[&str]; 2] = [&["env", program], &["sh", "-c", "\"$0\"", program]];
        // dash ends with 127 for whatever it does not find in PATH, whatever the cause.
        let count = if program.contains('/') { 2 } else { 1 };
        for oracle in &oracles[..count] {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--reuid=1234", "--regid=1234", "--clear-groups"]).args(*oracle);
            command.env_clear().env("PATH", &search).current_dir("/");
            let outcome = psi_harness::run(command, b"");
            assert_eq!(outcome.code, expected, "{oracle:?}: {}", outcome.stderr);
        }
    };
    for (program, expected) in [
        ("no-such-program", 127),
        ("/nonexistent/program", 127),
        ("", 127),
        ("plain", 126),
        (path("plain").as_str(), 126),
        (path("mine").as_str(), 126),
        ("/etc", 126),
        ("other", 126),
    ] {
        oracles(program, expected);
        let call = instance.driver(&["exec", "--", program]).env("PATH", &search);
        call.user(&instance, 1234, 1234).fails(expected);
    }
    let (_infisical, instance, _psid) = myapp(&json!({"A": "1"}));
    let run = |program: &str| instance.driver(&["exec", "--", program]).env("PATH", &search).run();
    assert_eq!((run("runs").code, run("mine").code), (4, 3));
    // The kernel finds no interpreter, after the secrets were fetched.
    oracles(&path("interpreter"), 127);
    assert_eq!(run(&path("interpreter")).code, 127);
}

/// Such variables would let anyone who may write to the provider's directory run code as root.
#[test]
fn exec_refuses_variables_that_load_or_run_code() {
    let (infisical, instance, _psid) = myapp(&json!({"A": "1"}));
    let marker = instance.directory().join("ran");
    let path = std::env::var_os("PATH").unwrap();
    let run = |allow: &[&str]| {
        let args = [&["exec"], allow, &["--", "touch", marker.to_str().unwrap()]].concat();
        instance.driver(&args).env("PATH", &path)
    };
    // A program that the provider's PATH would find instead of touch.
    let planted = instance.directory().join("touch");
    fs::write(&planted, "#!/bin/sh\necho planted >&2\n").unwrap();
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o755)).unwrap();
    for key in [
        "PATH",
        "LD_PRELOAD",
        "BASH_ENV",
        "GCONV_PATH",
        "NODE_OPTIONS",
        "PYTHONSTARTUP",
        "LESSOPEN",
    ] {
        infisical.put("/myapp", key, instance.directory().to_str().unwrap());
        instance.driver(&["cache", "refresh"]).ok();
        let line = run(&[]).fails(65);
        let expected = format!("{key} of the workload myapp chooses what a program loads or runs");
        assert!(line.contains(&expected) && line.contains(&format!("`--allow {key}`")), "{line}");
        assert!(!marker.exists(), "{key}");
        infisical.remove("/myapp", key);
    }
    infisical.put("/myapp", "PATH", instance.directory().to_str().unwrap());
    instance.driver(&["cache", "refresh"]).ok();
    // With `--allow` the command gets the variable; the command itself is still found by the
    // caller's PATH.
    run(&["--allow", "PATH"]).ok();
    assert!(marker.exists());
}

#[test]
fn exec_names_the_key_of_a_value_over_128_kib() {
    let (_infisical, instance, _psid) = myapp(&json!({"A": "1", "HUGE": "x".repeat(131_072)}));
    let exec = instance.driver(&["exec", "--", "/bin/true"]);
    let outcome = exec.run();
    assert_eq!(outcome.code, 65, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("HUGE"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("128 KiB"), "{}", outcome.stderr);
}

#[test]
fn exec_runs_nothing_if_a_value_is_missing() {
    let (infisical, instance, _psid) = myapp(&json!({"A": "a\0b"}));
    let marker = instance.directory().join("ran");
    let touch = ["exec", "--", "touch", marker.to_str().unwrap()];
    let path = std::env::var_os("PATH").unwrap();
    let line = instance.driver(&touch).env("PATH", &path).fails(65);
    assert!(line.contains("contains a NUL"), "{line}");
    infisical.put("/myapp", "A", "fine");
    instance.driver(&["cache", "refresh"]).ok();
    infisical.fault(&json!({"kind": "html-502"}));
    let other = Instance::of(&infisical);
    let mut config = Config::of(&infisical);
    config.rest = workload("myapp", &[("/myapp", false)]);
    other.configure(&config);
    let _other_psid = other.start();
    let line = other.driver(&touch).env("PATH", &path).fails(75);
    assert!(line.contains("psid has no value of myapp: "), "{line}");
    assert!(!marker.exists());
    // A completely cached workload is served, and the outage is reported.
    stdout(&instance.driver(&touch).env("PATH", &path));
    assert!(marker.exists());
}

/// An invalidated value is fetched; another source's value of that name is not used instead.
#[test]
fn exec_neither_omits_nor_substitutes_a_missing_key() {
    let sources = workload("myapp", &[("/common", false), ("/myapp", false)]);
    let (mut infisical, instance, _psid) = instance(
        &json!({"/common": {"B": "common"}, "/myapp": {"A": "mine", "B": "mine", "GOES": "1"}}),
        &sources,
    );
    let ram = ram();
    let directory = ram.path().join("secrets");
    let render = instance.driver(&["render", directory.to_str().unwrap()]);
    let exec = instance.driver(&["exec", "--", "/bin/sh", "-c", "printf %s,%s \"$A\" \"$B\""]);
    let invalidate = |key: &str| {
        let name = instance.driver(&["cache", "invalidate", &reference("/myapp", key)]);
        name.ok();
    };
    render.ok();
    assert_eq!(names(&directory), ["A", "B", "GOES"]);
    invalidate("A");
    invalidate("B");
    assert_eq!(exec.text(), "mine,mine");
    invalidate("A");
    invalidate("B");
    render.ok();
    assert_eq!(names(&directory), ["A", "B", "GOES"]);
    assert_eq!(fs::read(directory.join("B")).unwrap(), b"mine");
    // In an outage, a completely cached workload is served, and no file is removed.
    infisical.remove("/myapp", "GOES");
    instance.driver(&["cache", "refresh"]).ok();
    infisical.keep_state();
    infisical.kill();
    assert_eq!(stdout(&exec), "mine,mine");
    render.run();
    assert_eq!(names(&directory), ["A", "B", "GOES"]);
    invalidate("B");
    for call in [&exec, &render] {
        let line = call.fails(75);
        assert!(line.contains("psid lacks the key B of myproject:/myapp"), "{line}");
    }
    assert_eq!(fs::read(directory.join("B")).unwrap(), b"mine");
    infisical.restart();
    assert_eq!(stdout(&exec), "mine,mine");
    render.ok();
    assert_eq!(names(&directory), ["A", "B"]);
}
