//! The clouds' metadata services, and logins by them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Answer, Client, FakeInfisical, IDENTITY, myapp, state};

const SESSION: &str = "x-aws-ec2-metadata-token";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
const GCP: &str = "/computeMetadata/v1/instance/service-accounts/default/identity";
const AZURE: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=";
const RESOURCE: &str = "https://management.azure.com/";

/// A fake whose identity may log in by every method, with these settings of `method`.
fn with(method: &str, settings: Value) -> FakeInfisical {
    let mut state = state();
    let mut methods = json!({"aws": {}, "gcp": {}, "azure": {}, "kubernetes": {}});
    methods[method] = settings;
    state["identities"][0]["methods"] = methods;
    FakeInfisical::with_state(&state, &[])
}

fn ask(client: &mut Client, target: &str, headers: &[(&str, &str)]) -> Answer {
    client.send("GET", target, headers, None).unwrap()
}

fn change(fake: &FakeInfisical, changes: Value) {
    fake.control("PATCH", "/cloud", &changes);
}

fn login(fake: &FakeInfisical, method: &str, jwt: &str) -> Answer {
    let body = json!({"identityId": IDENTITY, "jwt": jwt});
    fake.client().write("POST", &format!("/api/v1/auth/{method}-auth/login"), &body)
}

fn gcp_token(fake: &FakeInfisical, audience: &str) -> String {
    let target = format!("{GCP}?audience={audience}&format=full");
    let answer = ask(&mut fake.machine(), &target, &[FLAVOR]);
    assert_eq!((answer.status, answer.header("Metadata-Flavor")), (200, "Google"));
    answer.text()
}

fn azure_token(fake: &FakeInfisical, resource: &str) -> String {
    let answer = ask(&mut fake.machine(), &format!("{AZURE}{resource}"), &[("Metadata", "true")]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!("3600")));
    body["access_token"].as_str().unwrap().to_owned()
}

fn kubernetes_token(fake: &FakeInfisical, order: Value) -> String {
    let mut whole = json!({"namespace": "default", "name": "psid"});
    whole.as_object_mut().unwrap().extend(order.as_object().unwrap().clone());
    let token = fake.control("POST", "/kubernetes/token", &whole);
    token["token"].as_str().unwrap().to_owned()
}

/// Asserts that the granted token reads secrets.
#[track_caller]
fn assert_admitted(fake: &FakeInfisical, grant: &Answer) {
    assert_eq!(grant.status, 200, "{}", grant.text());
    let mut client = fake.client();
    client.token = grant.json()["accessToken"].as_str().map(str::to_owned);
    assert_eq!(client.get(&myapp("", "")).status, 200);
}

#[test]
fn ec2_metadata_requires_a_session() {
    let fake = FakeInfisical::start(&[]);
    let mut machine = fake.machine();
    let roles = "/latest/meta-data/iam/security-credentials/";
    let open = |machine: &mut Client, headers: &[(&str, &str)]| {
        machine.send_raw("PUT", "/latest/api/token", headers, b"").unwrap()
    };
    for (headers, status) in [
        (&[][..], 400),
        (&[(TTL, "0")], 400),
        (&[(TTL, "21601")], 400),
        (&[(TTL, "60"), ("x-forwarded-for", "10.0.0.1")], 403),
    ] {
        assert_eq!(open(&mut machine, headers).status, status, "{headers:?}");
    }
    let session = open(&mut machine, &[(TTL, "60")]);
    assert_eq!((session.status, session.header(TTL)), (200, "60"));
    let session = session.text();
    for token in ["", "another"] {
        assert_eq!(ask(&mut machine, roles, &[(SESSION, token)]).status, 401);
    }
    let mut get = |path: &str| ask(&mut machine, path, &[(SESSION, &session)]);
    assert_eq!(get("/latest/meta-data/placement/region").text(), "eu-central-1");
    assert_eq!(get(roles).text(), "host-role");
    assert_eq!(get(&format!("{roles}other-role")).status, 404);
    let credentials = get(&format!("{roles}host-role")).json();
    assert_eq!(credentials["Code"], "Success");
    // 2026-11-23T18:00:00Z
    let expiration = credentials["Expiration"].as_str().unwrap();
    assert!(expiration.len() == 20 && expiration.ends_with('Z'), "{expiration}");

    change(&fake, json!({"aws": {"code": "AssumeRoleUnauthorizedAccess"}}));
    let failed = get(&format!("{roles}host-role")).json();
    assert_eq!(
        (&failed["Code"], failed.get("SecretAccessKey")),
        (&json!("AssumeRoleUnauthorizedAccess"), None)
    );
    change(&fake, json!({"aws": {"role": null}}));
    assert_eq!(get(roles).status, 404);
    fake.advance(60);
    assert_eq!(get(roles).status, 401);
    change(&fake, json!({"aws": {"enabled": false}}));
    assert_eq!(open(&mut fake.machine(), &[(TTL, "60")]).status, 403);
}

#[test]
fn gcp_and_azure_metadata_require_header_and_parameters() {
    let fake = FakeInfisical::start(&[]);
    let mut machine = fake.machine();
    let mut status =
        |target: &str, headers: &[(&str, &str)]| ask(&mut machine, target, headers).status;
    let good = format!("{GCP}?audience=a");
    assert_eq!(status(&good, &[]), 403);
    assert_eq!(status(&good, &[FLAVOR, ("x-forwarded-for", "10.0.0.1")]), 403);
    assert_eq!(status(GCP, &[FLAVOR]), 400);
    assert_eq!(status("/computeMetadata/v1/elsewhere", &[FLAVOR]), 404);
    assert_eq!(status(&good, &[FLAVOR]), 200);
    assert_eq!(status("/elsewhere", &[]), 404);
    change(&fake, json!({"gcp": {"serviceAccount": null}}));
    assert_eq!(status(&good, &[FLAVOR]), 404);

    let answer_to = |target: &str, headers: &[(&str, &str)]| {
        let answer = ask(&mut fake.machine(), target, headers);
        let body = answer.json();
        (answer.status, body["error_description"].as_str().unwrap().to_owned())
    };
    let metadata = [("Metadata", "true")];
    let good = format!("{AZURE}{RESOURCE}");
    assert_eq!(answer_to(&good, &[]), (400, "Required metadata header not specified".into()));
    assert_eq!(
        answer_to(AZURE, &metadata),
        (400, "Required query variable 'resource' is missing".into())
    );
    let identity = |id: &str| json!({"clientId": id, "objectId": format!("object-{id}")});
    change(&fake, json!({"azure": {"identities": [identity("a"), identity("b")]}}));
    assert!(answer_to(&good, &metadata).1.starts_with("Multiple user assigned identities exist"));
    assert_eq!(
        answer_to(&format!("{good}&client_id=c"), &metadata),
        (400, "Identity not found".into())
    );
    let answer = ask(&mut fake.machine(), &format!("{good}&client_id=b"), &metadata);
    assert_eq!(answer.json()["client_id"], "b");
}

#[test]
fn unconfigured_method_is_404() {
    let fake = FakeInfisical::start(&[]);
    for (method, name, again) in [
        ("gcp", "GCP", "GCP auth"),
        ("azure", "Azure", "Azure Auth"),
        ("kubernetes", "Kubernetes", "Kubernetes auth"),
    ] {
        let message =
            format!("{name} auth method not found for identity, did you configure {again}?");
        assert_eq!(login(&fake, method, "a.b.c").error(), (404, "NotFound".into(), message));
    }
    let (status, error, _) = login(&fake, "aws", "x").error();
    assert_eq!((status, error.as_str()), (422, "ValidationFailure"));
}

/// The unit tests of `sts` check valid signatures; this checks the server's answers to others.
#[test]
fn request_rejected_by_aws_is_500() {
    let fake = with("aws", json!({}));
    let refused = |headers: &Value| {
        let body = json!({
            "identityId": IDENTITY,
            "iamRequestBody": STANDARD.encode("Action=GetCallerIdentity&Version=2011-06-15"),
            "iamRequestHeaders": STANDARD.encode(headers.to_string()),
        });
        let (status, error, message) =
            fake.client().write("POST", "/api/v1/auth/aws-auth/login", &body).error();
        (status, format!("{error}: {message}"))
    };
    let authorization = "AWS4-HMAC-SHA256 Credential=AKID/20261123/eu-central-1/sts/aws4_request, \
                         SignedHeaders=host, Signature=00";
    assert_eq!(
        refused(&json!({"Authorization": authorization})),
        (500, "InternalServerError: Something went wrong".into())
    );
    assert_eq!(refused(&json!("no object")).0, 500);
    assert_eq!(refused(&json!({})), (400, "BadRequest: Invalid AWS region".into()));
}

#[test]
fn gcp_token_is_valid_for_one_identity_until_it_expires() {
    let fake = with(
        "gcp",
        json!({"allowedServiceAccounts": "other@x, host@my-project.iam.gserviceaccount.com"}),
    );
    let invalid = (401, "UnauthorizedError".to_owned(), "Invalid GCP ID token".to_owned());
    let token = gcp_token(&fake, IDENTITY);
    assert_admitted(&fake, &login(&fake, "gcp", &token));
    assert_eq!(login(&fake, "gcp", &gcp_token(&fake, "another")).error(), invalid);
    assert_eq!(login(&fake, "gcp", &azure_token(&fake, RESOURCE)).error(), invalid);
    fake.advance(3600 + 301);
    assert_eq!(login(&fake, "gcp", &token).error(), invalid);
    change(&fake, json!({"tokens": {"forged": true}}));
    let forged = gcp_token(&fake, IDENTITY);
    assert_eq!(login(&fake, "gcp", &forged).error(), invalid);
    fake.settings(json!({"gcpRefusal500": true}));
    assert_eq!(login(&fake, "gcp", &forged).error().0, 500);
    change(&fake, json!({"tokens": {"forged": false}, "gcp": {"serviceAccount": "stranger@x"}}));
    assert_eq!(
        login(&fake, "gcp", &gcp_token(&fake, IDENTITY)).error(),
        (401, "UnauthorizedError".into(), "Access denied: GCP service account not allowed.".into())
    );
}

#[test]
fn azure_token_is_valid_for_one_resource_until_it_expires() {
    let fake = with("azure", json!({}));
    let token_error = |message: &str| (403, "TokenError".to_owned(), message.to_owned());
    let token = azure_token(&fake, RESOURCE);
    assert_admitted(&fake, &login(&fake, "azure", &token));
    let slashless = azure_token(&fake, RESOURCE.trim_end_matches('/'));
    assert_admitted(&fake, &login(&fake, "azure", &slashless));
    assert_eq!(
        login(&fake, "azure", &azure_token(&fake, "https://vault.azure.net/")).error(),
        token_error(&format!("jwt audience invalid. expected: {RESOURCE}"))
    );
    fake.advance(3601);
    assert_eq!(
        login(&fake, "azure", &token).error(),
        token_error("Your token has expired. Please re-authenticate.")
    );
    let google = gcp_token(&fake, RESOURCE);
    assert_eq!(login(&fake, "azure", &google).error().2, "Invalid signing key");
    assert_eq!(login(&fake, "azure", "junk").status, 500);
    change(&fake, json!({"azure": {"tenant": "another"}}));
    assert!(
        login(&fake, "azure", &azure_token(&fake, RESOURCE))
            .error()
            .2
            .starts_with("jwt issuer invalid.")
    );
    change(&fake, json!({"tokens": {"forged": true}}));
    assert_eq!(
        login(&fake, "azure", &azure_token(&fake, RESOURCE)).error(),
        token_error("invalid signature")
    );

    let fake = with("azure", json!({"allowedServicePrincipalIds": "nobody"}));
    let (status, _, message) = login(&fake, "azure", &azure_token(&fake, RESOURCE)).error();
    assert_eq!(status, 401);
    assert!(message.starts_with("Service principal '") && message.ends_with("' not allowed"));
}

#[test]
fn service_account_token_is_reviewed_by_its_cluster() {
    let fake = with(
        "kubernetes",
        json!({"allowedNamespaces": "default,team-*", "allowedNames": "psid", "allowedAudience": "infisical"}),
    );
    let error_of = |order: Value| {
        let (status, error, message) =
            login(&fake, "kubernetes", &kubernetes_token(&fake, order)).error();
        (status, format!("{error}: {message}"))
    };
    let good = json!({"audience": "infisical"});
    assert_admitted(&fake, &login(&fake, "kubernetes", &kubernetes_token(&fake, good)));
    let team = json!({"audience": "infisical", "namespace": "team-a"});
    assert_admitted(&fake, &login(&fake, "kubernetes", &kubernetes_token(&fake, team)));
    let review =
        |why: &str| (401, format!("KubernetesTokenReviewError: [invalid bearer token, {why}]"));
    assert_eq!(
        error_of(json!({"audience": "infisical", "lifetimeSeconds": -1})),
        review("service account token has expired")
    );
    assert_eq!(
        error_of(json!({"audience": "infisical", "forged": true})),
        review("square/go-jose: error in cryptographic primitive")
    );
    assert_eq!(
        error_of(json!({"audience": "x"})),
        review("token audiences [\"x\"] is invalid for the target audiences [\"infisical\"]")
    );
    assert_eq!(
        error_of(json!({"audience": "infisical", "namespace": "other"})).1,
        "UnauthorizedError: Access denied: K8s namespace not allowed."
    );
    assert_eq!(
        error_of(json!({"audience": "infisical", "name": "other"})).1,
        "UnauthorizedError: Access denied: K8s name not allowed."
    );
}

/// Each port has its own faults: an outage of a cloud is none of Infisical's.
#[test]
fn fault_applies_to_one_port() {
    let fake = FakeInfisical::start(&[]);
    let rule = |fault: Value| json!([{"port": "metadata", "fault": fault}]);
    fake.control("PUT", "/faults", &rule(json!({"kind": "html-503"})));
    assert_eq!(fake.machine().get("/latest/api/token").status, 503);
    assert_eq!(fake.client().get("/api/status").status, 200);
    fake.control("PUT", "/faults", &rule(json!({"kind": "refuse"})));
    assert!(Client::connect(&fake.metadata).is_err());
    assert_eq!(fake.client().get("/api/status").status, 200);
    fake.control("DELETE", "/faults", &json!(null));
    assert_eq!(fake.machine().get("/").status, 404);
    fake.fault(json!({"kind": "html-502"}));
    assert_eq!(fake.machine().get("/").status, 404);
    assert_eq!(fake.client().get("/api/status").status, 502);
}

#[test]
fn cloud_state_can_be_read_and_changed() {
    let fake = FakeInfisical::start(&[]);
    change(&fake, json!({"aws": {"region": "us-east-1"}}));
    let cloud = fake.control("GET", "/cloud", &json!(null));
    assert_eq!(
        (&cloud["aws"]["region"], &cloud["aws"]["role"]),
        (&json!("us-east-1"), &json!("host-role"))
    );
    assert_eq!(fake.control("GET", "/state", &json!(null))["cloud"], cloud);
    for wrong in [json!({"ibm": {}}), json!({"aws": 1}), json!({"aws": {"regoin": "x"}})] {
        assert_eq!(fake.try_control("PATCH", "/cloud", &wrong).status, 400, "{wrong}");
    }
    // The requests are in order in one log.
    fake.machine().get("/elsewhere");
    fake.client().get("/api/status");
    let log = fake.control("GET", "/log", &json!(null));
    assert_eq!((&log[0]["path"], &log[1]["path"]), (&json!("/elsewhere"), &json!("/api/status")));
}
