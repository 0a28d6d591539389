//! The config file against what psid runs with: each report says when they differ, and which command ends that.

use std::fs;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Host, Instance, workload};

#[test]
fn newer_config_is_reported_until_it_is_read() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let config = Config::of(&infisical).workload("app", "/myapp", false);
    instance.configure(&config);
    let mut psid = instance.start();
    assert_eq!(psid.degraded(), "");
    // Written again and the same: an editor or a deployment may do that at any time.
    instance.configure(&config);
    assert_eq!(psid.degraded(), "");
    instance.configure(&config.clone().cache("max_stale = \"7d\""));
    let path = instance.config().display().to_string();
    let newer =
        format!("{path} is newer than the config that psid runs with; `systemctl reload psid`");
    assert_eq!(psid.degraded(), newer);
    assert_eq!(psid.status()["degraded_causes"], json!(["config-changed"]));
    let text = instance.driver(&["cache", "status"]).report();
    assert!(text.contains(&format!("DEGRADED   {newer}")), "{text}");
    for args in [&["cache", "refresh"][..], &["login"]] {
        let outcome = instance.driver(args).run();
        assert_eq!(outcome.code, 1, "{}", outcome.stderr);
        assert!(outcome.stderr.ends_with(&format!("{newer}\n")), "{}", outcome.stderr);
    }
    psid.reload();
    assert_eq!(psid.degraded(), "");
    instance.driver(&["cache", "refresh"]).ok();
    instance.driver(&["login"]).ok();
}

#[test]
fn broken_and_missing_config_are_reported_without_a_reload() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let good = fs::read_to_string(instance.config()).unwrap();
    fs::write(instance.config(), good.replace("timeout", "timeoutt")).unwrap();
    let degraded = psid.degraded();
    assert!(degraded.contains(":5: unknown field `timeoutt`"), "{degraded}");
    assert!(degraded.contains("the config before it stays in force"), "{degraded}");
    fs::remove_file(instance.config()).unwrap();
    assert!(psid.degraded().contains("No such file"), "{}", psid.degraded());
    fs::write(instance.config(), good).unwrap();
    assert_eq!(psid.degraded(), "");
}

#[test]
fn other_key_backend_takes_a_restart() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let mut psid = instance.start();
    instance.configure(&Config::of(&infisical).without_backend());
    assert!(psid.degraded().ends_with("; `systemctl restart psid`"), "{}", psid.degraded());
    psid.reload();
    assert!(psid.degraded().contains("another key backend"), "{}", psid.degraded());
    psid.terminate();
    let psid = instance.start();
    assert!(!psid.degraded().contains("another key backend"), "{}", psid.degraded());
}

#[test]
fn setup_and_doctor_report_a_newer_config() {
    let mut host = Host::with_myapp(&json!({"A": "1"}));
    host.write_quadlet("myapp");
    host.set_up(&[]);
    let more = [workload("myapp", &[("/myapp", false)]), workload("more", &[("/myapp", false)])];
    host.configure(&more.concat());
    let outcome = host.setup(&[]).run();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("`systemctl reload psid`"), "{}", outcome.stderr);
    let outcome = host.driver(&["doctor"]).run();
    assert!(
        outcome.stdout_text().contains("is newer than the config that psid runs with"),
        "{}",
        outcome.stdout_text()
    );
    host.reconfigure(&more.concat());
    host.write_quadlet("more");
    host.set_up(&[]);
    assert!(host.ids().contains_key("more--A"));
}
