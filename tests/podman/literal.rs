//! `psictl add`, and commands for single secrets.

use serde_json::json;

use psi_harness::Host;
use psi_harness::program;

/// Without `--literal` it would be a reference or be refused.
#[test]
fn literal_that_resembles_a_reference_is_added_unchanged() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    host.set_up(&[]);
    let driver = program("psi-driver").display().to_string();
    let add = |name: &str| host.driver(&["add", name, "--literal", "--program", &driver]);
    let texts = [
        r#"{"provider":"infisical","project":"myproject","path":"/myapp","key":"A"}"#,
        r#"{"provider":"infisicl","key":"A"}"#,
        "{'provider':'infisical'}",
        "hunter2\n",
    ];
    for (number, text) in texts.iter().enumerate() {
        let name = format!("literal-{number}");
        let output = add(&name).stdin(text).text();
        assert_eq!(output, format!("created podman secret {name}, a literal that psid encrypts\n"));
        assert_eq!(host.lookup(&name), *text);
        let options = host.podman.driver_options(&name);
        assert_eq!(options["store"], format!("exec {driver} store --literal"));
        assert_eq!(options["lookup"], format!("exec {driver} lookup"));
    }
    // Podman's record has the right commands.
    host.dry_run(0);
    let id = &host.ids()["literal-0"];
    host.podman.ok(&["secret", "rm", "literal-0"]);
    let listed = host.instance.driver(&["restore"]).text();
    assert!(listed.starts_with(id.as_str()) && listed.ends_with(": literal-0\n"), "{listed}");
    let line = add("a/b").stdin("x").fails(65);
    assert!(line.contains("comma, a slash or an equals sign"), "{line}");
    add("empty").fails(65);
    assert_eq!(host.driver(&["add", "n"]).run().code, 2);
}

/// Podman gets the secret only if the provider has the key; from then on it follows the key.
#[test]
fn reference_is_added_if_its_key_has_a_value() {
    let host = Host::with_myapp(&json!({"A": "1"}));
    let driver = program("psi-driver").display().to_string();
    let add = |name: &str, key: &str, path: &str| {
        let place = ["--project", "myproject", "--path", path, "--key", key];
        host.driver(&[&["add", name, "--program", &driver], &place[..]].concat())
    };
    let output = add("single", "A", "/myapp").text();
    assert_eq!(output, "created podman secret single, a reference to A of myproject:/myapp\n");
    assert_eq!(host.lookup("single"), "1");
    let options = host.podman.driver_options("single");
    assert_eq!(options["store"], format!("exec {driver} store"));
    add("none", "NONE", "/myapp").fails(66);
    add("none", "A", "/nowhere").fails(66);
    assert!(add("none", "A", "relative").fails(65).contains("does not begin with /"));
    add("single", "A", "/myapp").run();
    assert_eq!(host.ids().keys().collect::<Vec<_>>(), ["single"]);
    for args in [&["--key", "A"][..], &["--project", "p"], &["--literal", "--key", "A"]] {
        assert_eq!(host.driver(&[&["add", "n"], args].concat()).run().code, 2, "{args:?}");
    }
}

#[test]
fn id_deleted_by_command_can_be_restored() {
    let host = Host::with_myapp(&json!({}));
    let id = host.podman.create("by-hand", "a literal");
    for args in [&["delete", id.as_str()][..], &["delete", id.as_str(), "--force"]] {
        host.instance.driver(args).ok();
        host.instance.driver(&["lookup"]).id(&id).fails(66);
        let output = host.driver(&["restore", &id]).text();
        assert_eq!(output, "restored; podman still has it, as by-hand\n");
        assert_eq!(host.lookup("by-hand"), "a literal");
    }
    let line = host.instance.driver(&["delete", "../etc"]).fails(65);
    assert!(line.contains("psictl list"), "{line}");
    host.instance.driver(&["delete", "--force"]).run();
    assert_eq!(host.lookup("by-hand"), "a literal");
}
