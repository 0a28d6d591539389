//! `psictl add NAME --literal`, and commands for single secrets.

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
