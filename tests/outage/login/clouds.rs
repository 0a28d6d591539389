//! Logins by each method, without faults.

use std::thread;

use serde_json::json;

use psi_harness::machine::{AWS, AZURE, CLOUDS, GCP, IDENTITIES, Machine};
use psi_harness::{IDENTITY, reference};

#[test]
fn each_method_logs_in_once_for_all_lookups() {
    thread::scope(|scope| {
        for method in IDENTITIES {
            scope.spawn(move || {
                let machine = Machine::of(method, &json!({"/myapp": {"A": "1", "B": "2"}}));
                let instance = &machine.instance;
                let psid = instance.start();
                assert_eq!(instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
                assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
                assert_eq!(machine.logins(), 1, "{method:?}");
                assert_eq!(machine.login_bodies()[0]["identityId"], IDENTITY);
                assert_eq!(psid.degraded(), "");
            });
        }
    });
}

/// A cloud's token is used for one login; the next login gets a new one.
#[test]
fn expired_token_is_replaced_by_another_login() {
    thread::scope(|scope| {
        for method in IDENTITIES {
            scope.spawn(move || {
                let machine = Machine::of(method, &json!({"/myapp": {"A": "1", "B": "2"}}));
                let instance = &machine.instance;
                let _psid = instance.start();
                instance.driver(&["get", &reference("/myapp", "A")]).ok();
                let asked = machine.metadata_requests();
                machine.infisical.advance(2_592_000 + 1);
                assert_eq!(instance.driver(&["get", &reference("/myapp", "B")]).text(), "2");
                assert_eq!(machine.logins(), 2, "{method:?}");
                assert_eq!(machine.metadata_requests(), 2 * asked, "{method:?}");
            });
        }
    });
}

#[test]
fn two_projects_of_one_identity_share_its_login() {
    let machine = Machine::of(GCP, &json!({"/myapp": {"A": "1"}}));
    let mut config = machine.config();
    config.rest = format!(
        "[providers.infisical.projects.second]\nid = \"{}\"\nenvironment = \"prod\"\n\
         [providers.infisical.projects.second.auth]\n{}",
        psi_harness::PROJECT,
        config.auth
    );
    machine.instance.configure(&config);
    let _psid = machine.instance.start();
    for project in ["myproject", "second"] {
        let text =
            json!({"provider": "infisical", "project": project, "path": "/myapp", "key": "A"});
        assert_eq!(machine.instance.driver(&["get", &text.to_string()]).text(), "1");
    }
    assert_eq!(machine.logins(), 1);
}

/// Infisical calls the STS of the region in the signature.
#[test]
fn region_comes_from_the_config_or_the_instance() {
    for (line, region, asked) in
        [("", "eu-central-1", 1), ("region = \"us-gov-west-1\"\n", "us-gov-west-1", 0)]
    {
        let machine = Machine::of(AWS, &json!({"/myapp": {"A": "1"}}));
        let mut config = machine.config();
        config.auth += line;
        machine.instance.configure(&config);
        let _psid = machine.instance.start();
        assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
        let body = &machine.login_bodies()[0];
        let members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        let expected =
            ["iamHttpRequestMethod", "iamRequestBody", "iamRequestHeaders", "identityId"];
        assert_eq!(members, expected);
        let asked_for_region = machine.infisical.count("GET", "/latest/meta-data/placement/region");
        assert_eq!(asked_for_region, asked, "{region}");
    }
}

/// IMDSv2: each login has a short session of its own.
#[test]
fn ec2_metadata_uses_a_short_session() {
    let machine = Machine::of(AWS, &json!({"/myapp": {"A": "1"}}));
    let _psid = machine.instance.start();
    machine.instance.driver(&["get", &reference("/myapp", "A")]).ok();
    let log = machine.infisical.log();
    let open = log.iter().find(|request| request.text("method") == "PUT").unwrap();
    assert_eq!(open.header("x-aws-ec2-metadata-token-ttl-seconds"), "60");
    let asked: Vec<_> = log
        .iter()
        .filter(|request| request.text("path").starts_with("/latest/meta-data/"))
        .map(|request| request.header("x-aws-ec2-metadata-token"))
        .collect();
    assert!(asked.len() == 3 && asked.iter().all(|token| *token == asked[0]), "{asked:?}");
}

/// A machine with several managed identities needs a client id.
#[test]
fn azure_selects_one_of_several_identities() {
    let machine = Machine::of(AZURE, &json!({"/myapp": {"A": "1"}}));
    let identity = |id: &str| json!({"clientId": id, "objectId": id});
    let both = [identity("first"), identity("second")];
    machine.infisical.cloud(&json!({"azure": {"identities": both}}));
    let mut psid = machine.instance.start();
    let lookup = machine.instance.driver(&["get", &reference("/myapp", "A")]);
    let line = lookup.fails(75);
    assert!(line.contains("invalid_request: Multiple user assigned identities exist"), "{line}");
    let mut config = machine.config();
    config.auth += "client_id = \"second\"\n";
    machine.instance.configure(&config);
    psid.reload();
    assert_eq!(lookup.text(), "1");
}

/// The metadata service is called without a proxy, whatever the environment configures for
/// Infisical.
#[test]
fn metadata_service_is_called_without_a_proxy() {
    for method in CLOUDS {
        let machine = Machine::of(method, &json!({"/myapp": {"A": "1"}}));
        // Nothing listens on port 9, discard.
        let _psid = machine.instance.psid().env("http_proxy", "http://127.0.0.1:9").start();
        let line = machine.instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(line.contains("infisical is out: no connection to"), "{line}");
        assert_eq!(machine.logins(), 0);
        assert!(machine.metadata_requests() > 0);
    }
}
