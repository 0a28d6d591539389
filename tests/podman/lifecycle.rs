//! `podman secret …`: the driver calls of podman, their order, and failures.

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Outcome, Psid, id, one_line, reference};
use psi_harness::{IMAGE, Podman};

fn running() -> (FakeInfisical, Instance, Psid, Podman) {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "value of A", "B": "value of B"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let podman = Podman::of(&instance);
    (infisical, instance, psid, podman)
}

/// The secret names that podman lists.
#[track_caller]
fn names(podman: &Podman) -> Vec<String> {
    let listed = podman.ok(&["secret", "ls", "--format", "{{.Name}}"]);
    let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// The line of psi-driver in podman's output.
#[track_caller]
fn driver_line(stderr: &str) -> String {
    let ours: Vec<_> = stderr.lines().filter(|line| line.starts_with("psi-driver: ")).collect();
    assert_eq!(ours.len(), 1, "{stderr}");
    one_line(&format!("{}\n", ours[0]))
}

#[test]
fn podman_creates_lists_inspects_shows_and_removes_a_secret() {
    let (_infisical, instance, _psid, podman) = running();
    let made = podman.create("app.a", reference("/myapp", "A"));
    podman.create("app.b", "a literal\n");
    assert_eq!(names(&podman), ["app.a", "app.b"]);
    assert_eq!(podman.ok(&["secret", "inspect", "--format", "{{.ID}}", "app.a"]), made);
    let listed = podman.ok(&["secret", "ls", "--format", "{{.ID}} {{.Driver}}"]);
    assert!(listed.lines().any(|line| line == format!("{made} shell")), "{listed}");

    // Podman stores the options and shows them to every user: they are commands only (N9).
    let options = podman.driver_options("app.a");
    assert_eq!(options.len(), 4);
    for (verb, command) in &options {
        assert!(command.starts_with("exec /") && command.ends_with(verb.as_str()), "{command}");
        assert_eq!(command.split(' ').count(), 3, "{command}");
    }

    let shown = |name: &str| {
        if podman.knows(&["secret", "inspect"], "--showsecret") {
            let format = ["--showsecret", "--format", "{{.SecretData}}"];
            return podman
                .run(&[&["secret", "inspect"], &format[..], &[name]].concat(), b"")
                .stdout;
        }
        let id = podman.ok(&["secret", "inspect", "--format", "{{.ID}}", name]);
        let Outcome { code, stdout, stderr } = podman.as_podman(&options["lookup"], &id, b"");
        assert_eq!((code, stderr.as_str()), (0, ""));
        stdout
    };
    assert!(shown("app.a").starts_with(b"value of A"));
    assert!(shown("app.b").starts_with(b"a literal\n"));

    assert_eq!(podman.ok(&["secret", "rm", "app.a"]), made);
    assert_eq!(names(&podman), ["app.b"]);
    instance.driver(&["lookup"]).id(&made).fails(66);
    podman.ok(&["secret", "rm", "--all"]);
    assert_eq!(names(&podman), [""; 0]);
    assert_eq!(instance.driver(&["list"]).text(), "");
}

/// `--replace` deletes the old id before it stores the new one. For a missing name, podman ≥ 5.1
/// deletes the id "", continues if that fails, and drops another secret if it succeeds.
#[test]
fn replace_gives_the_new_value_and_affects_no_other() {
    let (_infisical, instance, _psid, podman) = running();
    let other = podman.create("other", "other's value");
    if podman.knows(&["secret", "create"], "--replace") {
        let replace = |data: &str| {
            let args = ["secret", "create", "--replace", "app", "-"];
            let Outcome { code, stdout, stderr } = podman.run(&args, data);
            assert_eq!((code, stderr.as_str()), (0, ""));
            String::from_utf8(stdout).unwrap().trim_end().to_owned()
        };
        let old = replace("old");
        let new = replace("new");
        assert_ne!(old, new);
        instance.driver(&["lookup"]).id(old).fails(66);
        assert_eq!(instance.driver(&["lookup"]).id(new).text(), "new");
        assert_eq!(names(&podman), ["app", "other"]);
    } else {
        // This podman cannot: the test runs its driver's commands in the order of one that can.
        let options = podman.driver_options("other");
        let answer = |command: &str, id: &str, stdin: &str| {
            let Outcome { code, stdout, stderr } = podman.as_podman(command, id, stdin);
            (code, String::from_utf8(stdout).unwrap() + &stderr)
        };
        let (code, words) = answer(&options["delete"], "", "");
        assert!(code != 0 && words.is_empty(), "{code}: {words}");
        assert_eq!(answer(&options["store"], &id(1), "old"), (0, String::new()));
        assert_eq!(answer(&options["delete"], &id(1), ""), (0, String::new()));
        assert_eq!(answer(&options["store"], &id(2), "new"), (0, String::new()));
        instance.driver(&["lookup"]).id(id(1)).fails(66);
        assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "new");
    }
    assert_eq!(instance.driver(&["lookup"]).id(other).text(), "other's value");
    assert_eq!(
        podman.container(&["--secret=other"], "cp /run/secrets/other /out/")["other"],
        b"other's value"
    );
}

/// Podman keeps a secret whose driver fails to delete it, so a delete of a lost one must succeed.
#[test]
fn secret_lost_by_psid_is_reported_and_removable() {
    let (_infisical, instance, psid, podman) = running();
    let lost = podman.create("lost", "gone");
    podman.create("kept", "here");
    psid.terminate();
    std::fs::remove_file(instance.state().join("secrets").join(&lost)).unwrap();
    let _psid = instance.start();
    // Podman itself reports "no such secret data" for every failure: only psi-driver's line has the
    // cause.
    let stderr = podman.fails(&["run", "--rm", "--secret=lost", IMAGE, "sh", "-c", "exit 0"], b"");
    let line = driver_line(&stderr);
    assert!(line.contains(&lost) && line.contains("no such secret registered"), "{line}");
    assert_eq!(podman.ok(&["secret", "rm", "lost"]), lost);
    assert_eq!(names(&podman), ["kept"]);
}

/// A failed removal must be reported.
#[test]
fn removal_without_psid_fails_and_keeps_the_secret() {
    let (_infisical, instance, psid, podman) = running();
    podman.create("app", "value");
    psid.terminate();
    let line = driver_line(&podman.fails(&["secret", "rm", "app"], b""));
    assert!(
        line.contains("no connection to psid") && line.contains("systemctl start psid"),
        "{line}"
    );
    assert_eq!(names(&podman), ["app"]);
    let _psid = instance.start();
    assert_eq!(podman.container(&["--secret=app"], "cp /run/secrets/app /out/")["app"], b"value");
    podman.ok(&["secret", "rm", "app"]);
    assert_eq!(names(&podman), [""; 0]);
}

#[test]
fn refused_store_leaves_nothing() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "value of A"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).without_backend());
    let _psid = instance.start();
    let podman = Podman::of(&instance);
    for (data, words) in [
        ("a literal", "there is no key backend to seal a literal with"),
        (r#"{"provider":"infisical","project":"none","key":"A"}"#, "projects.none]"),
    ] {
        let Outcome { code, stdout, stderr } = podman.run(&["secret", "create", "app", "-"], data);
        assert_ne!(code, 0);
        assert_eq!(stdout, b"", "podman printed an id");
        let line = driver_line(&stderr);
        assert!(line.contains(words) && line.contains("; "), "{line}");
        assert_eq!(names(&podman), [""; 0]);
        assert_eq!(instance.driver(&["list"]).text(), "");
    }
    // The name is free, and a reference needs no key.
    podman.create("app", reference("/myapp", "A"));
    assert_eq!(
        podman.container(&["--secret=app"], "cp /run/secrets/app /out/")["app"],
        b"value of A"
    );
}

/// N4: the Python PSI's `cache invalidate NAME` matched nothing, because its keys were HMACs.
#[test]
fn n4_podman_names_are_accepted() {
    let (infisical, instance, _psid, podman) = running();
    let a = podman.create("app.a", reference("/myapp", "A"));
    podman.create("app.b", reference("/myapp", "B"));
    podman.create("app.pw", "literal\0");
    let by_name = |args: &[&str]| {
        podman
            .environment()
            .fold(instance.driver(args), |driver, (name, value)| driver.env(name, value))
    };
    assert_eq!(by_name(&["get", "app.a"]).text(), "value of A");
    assert_eq!(by_name(&["get", "app.b"]).text(), "value of B");
    assert_eq!(by_name(&["get", "app.pw"]).ok(), b"literal\0");
    assert_eq!(by_name(&["get", &a]).text(), "value of A");
    let line = by_name(&["get", "app.c"]).fails(66);
    assert!(line.starts_with("psictl: get app.c: "), "{line}");

    infisical.put("/myapp", "A", "new value of A");
    infisical.clear_log();
    assert_eq!(by_name(&["get", "app.a"]).text(), "value of A");
    assert!(by_name(&["cache", "invalidate", "app.a"]).text().starts_with("removed"));
    assert_eq!(by_name(&["get", "app.b"]).text(), "value of B");
    assert_eq!(
        infisical.reads(),
        0,
        "only the one entry was dropped, and nothing was asked for yet"
    );
    assert_eq!(by_name(&["get", "app.a"]).text(), "new value of A");
    assert_eq!(infisical.reads(), 1);
    by_name(&["cache", "invalidate", "app.c"]).fails(66);
    let line = by_name(&["cache", "invalidate", "app.pw"]).fails(65);
    assert!(line.contains("podman secret rm"), "{line}");
}
