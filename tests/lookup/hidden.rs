//! Values that the server hides behind a placeholder.

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, eventually, id, reference};

fn describe_only() -> serde_json::Value {
    json!([{"environment": "*", "pathPrefix": "/", "describe": true, "read": false, "write": false}])
}

#[test]
fn hidden_value_placeholder_is_refused() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    infisical.settings(&json!({"hiddenValues": true}));
    infisical.permit(&describe_only());
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    let line = instance.driver(&["lookup"]).id(id(1)).fails(77);
    assert!(line.contains("hides the value of 'A'"), "{line}");
    instance.driver(&["cache", "refresh"]).run();
    assert_eq!(psid.status()["entries"], 0);
    instance.driver(&["get", "myapp--A"]).env("PATH", "/nowhere").fails(77);
}

#[test]
fn hidden_value_placeholder_never_replaces_a_cached_value() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).short_lived().workload("myapp", "/myapp", false));
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    infisical.settings(&json!({"hiddenValues": true}));
    infisical.permit(&describe_only());
    infisical.clear_log();
    eventually("psid to have received the placeholder more than once", || {
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
        (infisical.reads() >= 3).then_some(())
    });
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(psid.status()["entries"], 1);
}

/// A secret whose value is the placeholder's text cannot be distinguished from a hidden one.
#[test]
fn placeholder_text_is_refused_regardless_of_the_flag() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "<hidden-by-infisical>"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    let line = instance.driver(&["get", &reference("/myapp", "A")]).fails(77);
    assert!(line.contains("hides the value"), "{line}");
}
