//! Clouds without an identity, and logins that Infisical refuses.

use serde_json::{Value, json};

use psi_harness::machine::{AWS, AZURE, GCP, Machine, Method};
use psi_harness::{CLIENT_SECRET, IDENTITY, fault, id, reference, seed};

fn secrets() -> Value {
    json!({"/myapp": {"A": "1", "B": "2"}})
}

#[test]
fn missing_machine_identity_is_reported() {
    for (method, lack, words) in [
        (
            AWS,
            json!({"aws": {"role": null}}),
            "answers 404: the instance has no IAM role; attach one",
        ),
        (
            AWS,
            json!({"aws": {"enabled": false}}),
            "answers 403: the service is turned off for this instance",
        ),
        (
            AWS,
            json!({"aws": {"code": "AssumeRoleUnauthorizedAccess"}}),
            "no credentials of the instance's role: AssumeRoleUnauthorizedAccess",
        ),
        (AWS, json!({"aws": {"region": "no region"}}), "no region; set region in the config"),
        (
            GCP,
            json!({"gcp": {"serviceAccount": null}}),
            "answers 404: the machine has no service account; attach one",
        ),
        (
            AZURE,
            json!({"azure": {"identities": []}}),
            "answers 400: invalid_request: Identity not found",
        ),
    ] {
        let machine = Machine::of(method, &secrets());
        machine.infisical.cloud(&lack);
        let psid = machine.instance.start();
        let line = machine.instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(line.contains(words), "{line}");
        assert!(psid.degraded().contains(words), "{}", psid.degraded());
        assert_eq!(machine.logins(), 0);
    }
}

/// Infisical refuses the identity, which is no statement about a secret.
#[test]
fn refused_identity_is_no_denial_and_is_retried_rarely() {
    for (method, settings, words) in [
        (
            AWS,
            json!({"allowedPrincipalArns": "arn:aws:iam::123456789012:role/other"}),
            "Infisical answers 401 UnauthorizedError: Access denied: AWS principal ARN not allowed.",
        ),
        (AWS, json!({"allowedAccountIds": "1"}), "AWS account ID not allowed"),
        (GCP, json!({"allowedZones": "us-east1-a"}), "GCP zone not allowed"),
        (AZURE, json!({"allowedServicePrincipalIds": "x"}), "' not allowed"),
        (
            AZURE,
            json!({"resource": "https://vault.azure.net/"}),
            "Infisical answers 403 TokenError: jwt audience invalid. expected: https://vault.azure.net/",
        ),
    ] {
        let remedy = match method.name {
            "aws-iam" => {
                "this instance has account id 123456789012 and principal ARN \
                          arn:aws:iam::123456789012:role/host-role); list this role's account id or principal ARN in \
                          the identity's AWS auth in Infisical"
            }
            "gcp" => {
                "this machine has service account 'host@my-project.iam.gserviceaccount.com', project 'my-project' and \
                      zone 'europe-west3-a'); list this machine's service account or project in the identity's GCP auth"
            }
            _ => "Azure auth in Infisical this machine's tenant",
        };
        let machine = Machine::with_settings(method, &secrets(), &settings);
        let psid = machine.instance.start();
        for key in ["A", "B", "C"] {
            let line = machine.instance.driver(&["get", &reference("/myapp", key)]).fails(75);
            assert!(line.contains(words), "{line}");
            assert!(line.contains(remedy), "{line}");
            assert!(line.contains("psid tries again in "), "{line}");
        }
        assert_eq!(machine.logins(), 1, "{method:?}");
        assert!(psid.degraded().contains(words), "{}", psid.degraded());
    }
}

/// Newer servers refuse an identity that anybody in the cloud could be: the message names the binding to make.
#[test]
fn missing_trust_binding_is_named_with_its_values() {
    for (method, settings, text, binding) in [
        (
            AWS,
            json!({}),
            "AWS auth method has no allowlist configured",
            "principal ARN arn:aws:iam::123456789012:role/host-role",
        ),
        (GCP, json!({}), "GCP auth method has no allowlist configured", "project 'my-project'"),
        (
            GCP,
            json!({"allowedZones": "europe-west3-a"}),
            "restricts only by zone",
            "service account 'host@my-project.iam.gserviceaccount.com'",
        ),
    ] {
        let machine = Machine::with_settings(method, &secrets(), &settings);
        machine.infisical.settings(&json!({"requireTrustBinding": true}));
        let psid = machine.instance.start();
        for key in ["A", "B"] {
            let line = machine.instance.driver(&["get", &reference("/myapp", key)]).fails(75);
            for part in [text, binding, "newer servers refuse an identity that lists neither"] {
                assert!(line.contains(part), "{part}: {line}");
            }
        }
        assert_eq!(machine.logins(), 1, "{text}");
        assert!(psid.degraded().contains(binding), "{}", psid.degraded());
    }
}

/// Whatever status a server of another version answers with, the remedy is the same.
#[test]
fn trust_binding_is_named_for_each_status_of_a_refusal() {
    for code in [400, 401, 403] {
        let machine = Machine::of(GCP, &secrets());
        let refusal = fault::refusal(code, "Oops", "no allowlist");
        machine.infisical.fault_login(IDENTITY, &refusal);
        let _psid = machine.instance.start();
        let line = machine.instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(line.contains("this machine has service account"), "{code}: {line}");
    }
}

/// The config's resource is the audience of the token.
#[test]
fn azure_resource_comes_from_the_config() {
    let settings = json!({"resource": "https://vault.azure.net/"});
    let machine = Machine::with_settings(AZURE, &secrets(), &settings);
    let mut config = machine.config();
    config.auth += "resource = \"https://vault.azure.net/\"\n";
    machine.instance.configure(&config);
    let _psid = machine.instance.start();
    assert_eq!(machine.instance.driver(&["get", &reference("/myapp", "A")]).text(), "1");
}

/// The identity exists and does not have the method.
#[test]
fn login_method_missing_for_the_identity_is_reported() {
    for (method, words) in [
        (AWS, "did you configure AWS auth?"),
        (GCP, "did you configure GCP auth?"),
        (AZURE, "did you configure Azure Auth?"),
    ] {
        let machine = Machine::launch(method, &seed(&secrets()));
        let _psid = machine.instance.start();
        let line = machine.instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(line.contains("psid cannot log in to infisical"), "{line}");
        assert!(line.contains(words), "{line}");
    }
}

/// Infisical answers a signature that AWS rejects with the same 500 as an internal error. Other
/// identities must not be affected.
#[test]
fn login_500_is_no_outage_of_infisical() {
    let revoked = json!({"aws": {"revoked": true}});
    let expired = json!({"tokens": {"lifetimeSeconds": -1000}});
    for (method, settings, cloud, words) in [
        (AWS, "aws", revoked, "check this host's clock and its role"),
        (GCP, "gcp", expired, "check the identity's GCP settings"),
    ] {
        let machine = with_a_second_identity(method, settings);
        machine.infisical.settings(&json!({"gcpRefusal500": true}));
        machine.infisical.cloud(&cloud);
        let psid = machine.instance.start();
        let line = machine.instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(line.contains("Infisical answers 500 InternalServerError"), "{line}");
        assert!(line.contains(words), "{line}");
        assert_eq!(psid.status()["providers"][0]["up"], true);
        let other =
            json!({"provider": "infisical", "project": "second", "path": "/myapp", "key": "B"});
        assert_eq!(machine.instance.driver(&["get", &other.to_string()]).text(), "2");
        let line = machine.instance.driver(&["get", &reference("/myapp", "A")]).fails(75);
        assert!(line.contains(words), "{line}");
    }
}

/// The project `second` uses universal-auth.
fn with_a_second_identity(method: Method, settings: &str) -> Machine {
    let mut infisical = seed(&secrets());
    infisical["identities"][0]["methods"] = json!({settings: {}});
    let machine = Machine::launch(method, &infisical);
    machine.instance.give_client_secret(CLIENT_SECRET);
    let mut config = machine.config();
    config.rest = format!(
        "[providers.infisical.projects.second]\nid = \"{}\"\nenvironment = \"prod\"\n\
         [providers.infisical.projects.second.auth]\nmethod = \"universal-auth\"\n\
         client_id = \"client\"\nclient_secret_credential = \"infisical-client-secret\"\n",
        psi_harness::PROJECT
    );
    machine.instance.configure(&config);
    machine
}

/// A refusal evicts no cached value at once: like any other, it needs a confirmation.
#[test]
fn refused_identity_evicts_no_cached_value() {
    let machine = Machine::of(GCP, &secrets());
    let psid = machine.instance.start();
    machine.instance.persist_reference(&psid);
    psid.terminate();
    machine.infisical.cloud(&json!({"tokens": {"forged": true}}));
    let psid = machine.instance.start();
    machine.instance.driver(&["cache", "refresh"]).run();
    assert!(psid.degraded().contains("Invalid GCP ID token"), "{}", psid.degraded());
    assert_eq!(machine.instance.driver(&["lookup"]).id(id(1)).text(), "1");
}
