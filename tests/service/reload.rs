//! SIGHUP: psid reads the config again. If it is invalid, psid reports it and keeps the old one.

use std::fs;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, id, reference, seed};

/// A SIGHUP without a handler ends a process, so psid installs it before READY.
#[test]
fn reload_right_after_ready_keeps_psid_running() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    for _ in 0..24 {
        instance.start().reload();
    }
}

#[test]
fn reload_applies_a_changed_config() {
    let old = FakeInfisical::with(&json!({"/myapp": {"A": "old server"}}));
    let new = FakeInfisical::with(&json!({"/myapp": {"A": "x"}, "/other": {"B": "new server"}}));
    let instance = Instance::of(&old);
    let mut psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "old server");
    instance.driver(&["get", "app--B"]).env("PATH", "/nowhere").fails(66);
    instance.configure(&Config::of(&new).workload("app", "/other", false));
    psid.reload();
    assert_eq!(instance.driver(&["get", "app--B"]).text(), "new server");
    // Cached values are kept: the project is the same.
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "old server");
    assert_eq!(old.reads(), 1);
}

/// psid keeps the resolved reference of a registered secret: with another config it may be another
/// value.
#[test]
fn reload_refetches_secrets_of_a_changed_project() {
    let mut whole = seed(&json!({"/myapp": {"A": "of the one project"}}));
    let mut other = whole["projects"][0].clone();
    other["id"] = json!("6f2d1b0e-0000-4000-8000-0000000000bb");
    other["secrets"]["prod"] = json!({"/myapp": {"A": "of the other"}});
    whole["projects"].as_array_mut().unwrap().push(other);
    let infisical = FakeInfisical::launch(&whole, &[]);
    let instance = Instance::of(&infisical);
    let mut psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    for _ in 0..3 {
        assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "of the one project");
    }
    let config = fs::read_to_string(instance.config()).unwrap();
    let elsewhere = config.replace("00000000000a", "0000000000bb");
    assert_ne!(config, elsewhere);
    for (text, value) in [(elsewhere, "of the other"), (config, "of the one project")] {
        fs::write(instance.config(), text).unwrap();
        psid.reload();
        for _ in 0..3 {
            assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), value);
        }
    }
    assert_eq!(infisical.reads(), 2, "what is cached of either project stays");
}

#[test]
fn reload_reports_a_broken_config_and_keeps_the_old_one() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let good = Config::of(&infisical).workload("app", "/myapp", false);
    instance.configure(&good);
    let mut psid = instance.start();
    let cases = [
        (good.to_string().replace("timeout", "timeoutt"), ":5: unknown field `timeoutt`"),
        ("[cache".into(), ":1: "),
        (
            good.to_string().replace("myproject\", path", "absent\", path"),
            "no [providers.infisical.projects.absent]",
        ),
    ];
    for (text, words) in cases {
        fs::write(instance.config(), text).unwrap();
        psid.reload();
        let degraded = psid.degraded();
        assert!(degraded.contains(&format!("{}:", instance.config().display())), "{degraded}");
        assert!(degraded.contains(words), "{degraded}");
        assert!(degraded.contains("the config before it stays in force"), "{degraded}");
        psid.await_log(words);
        assert_eq!(instance.driver(&["get", "app--A"]).text(), "1");
    }
    fs::remove_file(instance.config()).unwrap();
    psid.reload();
    assert!(psid.degraded().contains("No such file"), "{}", psid.degraded());
    assert_eq!(instance.driver(&["get", "app--B"]).text(), "2");
    instance.configure(&good);
    psid.reload();
    assert_eq!(psid.degraded(), "");
}

/// An admin unseals or provides the key after the start: a reload suffices.
#[test]
fn reload_finds_a_key_created_later() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    instance.driver(&["store"]).id(id(2)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["lookup"]).id(id(2)).ok();
    psid.terminate();
    instance.take_key();
    let mut psid = instance.start();
    instance.driver(&["lookup"]).id(id(1)).fails(65);
    assert_eq!(psid.status()["entries"], 0);
    instance.give_key(&[7; 32]);
    psid.reload();
    assert_eq!(psid.degraded(), "");
    assert_eq!(psid.status()["entries"], 1);
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
}

/// Values that were fetched before the key came are kept: they are newer than those in the file.
#[test]
fn key_created_later_loses_no_fetched_value() {
    let mut infisical = FakeInfisical::with(&json!({"/myapp": {"A": "old", "B": "2"}}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    instance.driver(&["get", &reference("/myapp", "A")]).ok();
    psid.terminate();
    instance.take_key();
    infisical.put("/myapp", "A", "new");
    let mut psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "new");
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    instance.give_key(&[7; 32]);
    psid.reload();
    infisical.kill();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "new");
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
    psid.terminate();
    let _psid = instance.start();
    assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "new");
    assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
}

#[test]
fn lookups_continue_during_a_reload() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let mut psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    std::thread::scope(|scope| {
        let reloading = scope.spawn(|| {
            for _ in 0..20 {
                psid.reload();
            }
        });
        while !reloading.is_finished() {
            assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
        }
    });
    assert_eq!((infisical.reads(), infisical.logins()), (1, 1));
}

#[test]
fn provider_removed_from_the_config_is_reported_and_its_secrets_stay_registered() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let mut psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    instance.driver(&["lookup"]).id(id(1)).ok();
    let mut config = Config::of(&infisical);
    config.infisical.clear();
    instance.configure(&config);
    psid.reload();
    let line = instance.driver(&["lookup"]).id(id(1)).fails(65);
    assert!(line.contains("the config has no [providers.infisical]"), "{line}");
    assert_eq!(instance.driver(&["list"]).text(), format!("{}\n", id(1)));
    assert_eq!(psid.status()["would_fail"], json!([id(1)]));
    instance.configure(&Config::of(&infisical));
    psid.reload();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
}
