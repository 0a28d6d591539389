//! Rules by directory, key, route and identity, and their faults.

use serde_json::{Value, json};

use crate::support::{Client, FakeInfisical, IDENTITY, PROJECT, myapp};

fn list(path: &str) -> String {
    format!("/api/v4/secrets?projectId={PROJECT}&environment=prod&secretPath={path}")
}

fn rule(fake: &FakeInfisical, matching: Value, fault: Value) {
    fake.control("PUT", "/faults", &json!([{"match": matching, "fault": fault}]));
}

#[test]
fn each_fault_of_one_directory_spares_others() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    for (fault, status) in [
        (json!({"kind": "status", "code": 500}), 500),
        (json!({"kind": "html-403-waf"}), 403),
        (json!({"kind": "captive-portal"}), 200),
        (json!({"kind": "delay", "ms": 1}), 200),
    ] {
        rule(&fake, json!({"secretPath": "/other"}), fault.clone());
        let struck = client.get(&list("/other/"));
        assert_eq!(struck.status, status, "{fault}");
        assert_eq!(client.get(&list("/shared")).status, 200);
        assert_eq!(client.get(&list("/")).status, 200, "one above it");
        let shown = fake.control("GET", "/faults", &Value::Null);
        assert_eq!(shown[0]["hits"], 1);
    }
    rule(&fake, json!({"secretPath": "/other", "route": "list"}), json!({"kind": "html-502"}));
    assert_eq!(client.get(&list("/other")).status, 502);
    assert_eq!(client.get(&list("/other").replace("secrets?", "secrets/PORT?")).status, 200);
    let import = format!("/api/v2/secret-imports?projectId={PROJECT}&environment=prod&path=/other");
    assert_eq!(client.get(&import).status, 200);
}

#[test]
fn fault_of_one_key_spares_others() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let fault = json!({"kind": "status", "code": 500});
    rule(&fake, json!({"secretPath": "/myapp", "key": "DB_HOST"}), fault);
    assert_eq!(client.get(&myapp("/DB_HOST", "")).error().0, 500);
    assert_eq!(client.get(&myapp("/TAGGED", "")).status, 200);
    assert_eq!(client.get(&myapp("", "")).listed()["DB_HOST"], "db");
}

#[test]
fn fault_of_one_identity_spares_the_other() {
    let mut state = crate::support::state();
    let other = json!({"id": "other", "name": "other", "clientId": "other-client",
                       "clientSecrets": [{"secret": "other-secret"}]});
    state["identities"].as_array_mut().unwrap().push(other);
    let fake = FakeInfisical::with_state(&state, &[]);
    let login = |client: &mut Client, id: &str, secret: &str| {
        let body = json!({"clientId": id, "clientSecret": secret});
        client.write("POST", "/api/v1/auth/universal-auth/login", &body)
    };
    let mut client = fake.member();
    let mut second = fake.client();
    second.token = login(&mut fake.client(), "other-client", "other-secret").json()["accessToken"]
        .as_str()
        .map(str::to_owned);
    let busy = json!({"kind": "status", "code": 429, "error": "RateLimitExceeded",
                      "message": "Rate limit exceeded. Please try again in 7 seconds",
                      "retryAfter": 7});
    rule(&fake, json!({"identity": IDENTITY, "route": "login"}), busy.clone());
    let struck = client.login("hunter2");
    assert_eq!((struck.status, struck.header("retry-after")), (429, "7"));
    assert_eq!(login(&mut fake.client(), "other-client", "other-secret").status, 200);
    assert_eq!(client.get(&myapp("", "")).status, 200, "its token is as good as before");

    rule(&fake, json!({"identity": IDENTITY}), busy);
    assert_eq!(client.get(&myapp("", "")).status, 429);
    assert_eq!(second.get(&myapp("", "")).status, 200);
}

#[test]
fn route_is_lost_once() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let lost =
        json!([{"match": {"route": "list"}, "fault": {"kind": "route-not-found"}, "times": 1}]);
    fake.control("PUT", "/faults", &lost);
    let target = myapp("", "");
    let answer = client.get(&target);
    assert_eq!(
        answer.json(),
        json!({"message": format!("Route GET:{target} not found"), "error": "Not Found",
               "statusCode": 404})
    );
    assert_eq!(client.get(&target).status, 200);
}

#[test]
fn postgres_outage_is_500_with_ok_status() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.fault(json!({"kind": "postgres-down"}));
    let (status, error, message) = client.get(&myapp("", "")).error();
    assert_eq!((status, message.as_str()), (500, "Something went wrong"));
    assert_eq!(error, "FindMembership");
    assert_eq!(client.login("hunter2").error().1, "FindOne");
    assert_eq!(client.get("/api/status").json()["message"], "Ok");
}

#[test]
fn empty_listing_is_valid_and_refusals_can_have_details() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.fault(json!({"kind": "empty-listing"}));
    assert_eq!(client.get(&myapp("", "")).json(), json!({"secrets": [], "imports": []}));
    assert_eq!(client.get(&myapp("/DB_HOST", "")).status, 200);
    fake.fault(json!({"kind": "status", "code": 403, "error": "ForbiddenError",
                        "message": "no", "details": ["why"]}));
    assert_eq!(client.get(&myapp("", "")).json()["details"], json!(["why"]));
    let typo = json!([{"match": {"route": "lits"}, "fault": {"kind": "hang"}}]);
    assert_eq!(fake.try_control("PUT", "/faults", &typo).status, 400);
}

#[test]
fn control_adds_and_removes_imports_without_the_api() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let import = json!({"project": PROJECT, "import": {
        "environment": "prod", "path": "/empty/", "from": {"environment": "prod", "path": "base"}}});
    fake.control("PUT", "/import", &import);
    assert_eq!(client.get(&list("/empty")).json()["imports"][0]["secretPath"], "/base");
    fake.control("DELETE", "/import", &import);
    assert_eq!(client.get(&list("/empty")).json()["imports"], json!([]));
    assert_eq!(fake.try_control("DELETE", "/import", &import).status, 404);
    let circle = json!({"project": PROJECT, "import": {
        "environment": "prod", "path": "/base", "from": {"environment": "prod", "path": "/myapp"}}});
    assert_eq!(fake.try_control("PUT", "/import", &circle).status, 400);
}
