//! Logins, tokens and their ends.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{Answer, Client, FakeInfisical, IDENTITY, SECRET_ID, myapp, state};

fn unauthorized(message: &str) -> (u16, String, String) {
    (401, "UnauthorizedError".to_owned(), message.to_owned())
}

fn claims(grant: &Answer) -> Value {
    let grant = grant.json();
    let parts: Vec<_> = grant["accessToken"].as_str().unwrap().split('.').collect();
    assert_eq!(parts.len(), 3);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap()
}

fn with_identity(change: impl Fn(&mut Value)) -> FakeInfisical {
    let mut state = state();
    change(&mut state["identities"][0]);
    FakeInfisical::with_state(&state, &[])
}

fn renew(client: &mut Client) -> Answer {
    let body = json!({"accessToken": client.token});
    client.write("POST", "/api/v1/auth/token/renew", &body)
}

#[test]
fn login_returns_a_valid_token() {
    let fake = FakeInfisical::start(&[]);
    let grant = fake.client().login(" hunter2 ");
    let body = grant.json();
    assert_eq!(
        (&body["expiresIn"], &body["accessTokenMaxTTL"], &body["tokenType"]),
        (&json!(2_592_000), &json!(2_592_000), &json!("Bearer"))
    );
    let claims = claims(&grant);
    assert_eq!(claims["identityId"], IDENTITY);
    assert_eq!(claims["clientSecretId"], SECRET_ID);
    assert_eq!(claims["jti"], claims["identityAccessTokenId"]);
    let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lifetime, 2_592_000);
}

#[test]
fn wrong_secrets_lock_out_the_right_one() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.client();
    let unknown = json!({"clientId": "nobody", "clientSecret": "x"});
    let login = "/api/v1/auth/universal-auth/login";
    let invalid = unauthorized("Invalid credentials");
    assert_eq!(client.write("POST", login, &unknown).error(), invalid);
    for _ in 0..3 {
        assert_eq!(client.login("wrong").error(), invalid);
    }
    let locked =
        unauthorized("This identity auth method is temporarily locked, please try again later");
    assert_eq!(client.login("hunter2").error(), locked);
    fake.advance(299);
    assert_eq!(client.login("hunter2").error(), locked);
    fake.advance(1);
    assert_eq!(client.login("hunter2").status, 200);
}

#[test]
fn client_secrets_expire_by_time_and_uses() {
    let fake = with_identity(|identity| {
        identity["clientSecrets"] = json!([
            {"secret": "short", "ttlSeconds": 10},
            {"secret": "single", "usesLimit": 1},
            {"secret": "gone", "expired": true},
        ]);
    });
    let mut client = fake.client();
    assert_eq!(client.login("short").status, 200);
    fake.advance(11);
    let expired = unauthorized("Access denied due to expired client secret");
    assert_eq!(client.login("short").error(), expired);
    assert_eq!(client.login("gone").error(), expired);
    // The rejected renewal has revoked it
    assert_eq!(client.login("gone").error().2, "Invalid credentials");
    assert_eq!(client.login("single").status, 200);
    assert_eq!(
        client.login("single").error().2,
        "Access denied due to client secret usage limit reached"
    );
}

#[test]
fn login_from_an_untrusted_address_is_403() {
    let fake = with_identity(|identity| {
        identity["clientSecretTrustedIps"] = json!(["127.0.0.0/8"]);
        identity["accessTokenTrustedIps"] = json!(["10.0.0.0/8"]);
    });
    let mut client = fake.member();
    let forbidden = (
        403,
        "ForbiddenError".to_owned(),
        "You are not allowed to access this resource from the current IP address".to_owned(),
    );
    assert_eq!(client.get(&myapp("", "")).error(), forbidden);
    let proxied = [("x-forwarded-for", "10.2.3.4, 127.0.0.1")];
    assert_eq!(client.send("GET", &myapp("", ""), &proxied, None).unwrap().status, 200);
    let body = json!({"clientId": "client", "clientSecret": "hunter2"});
    let login = "/api/v1/auth/universal-auth/login";
    assert_eq!(client.send("POST", login, &proxied, Some(&body)).unwrap().error(), forbidden);
}

#[test]
fn bad_tokens_have_distinct_errors() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.client();
    assert_eq!(client.get(&myapp("", "")).error(), unauthorized("Token missing"));
    client.token = Some("not.a.token".to_owned());
    let (status, error, message) = client.get(&myapp("", "")).error();
    assert_eq!((status, error.as_str()), (403, "TokenError"));
    assert!(message.starts_with("The provided access token is malformed."));
    client.token = Some("st.abc.def.ghi".to_owned());
    assert_eq!(
        client.get(&myapp("", "")).error(),
        (404, "NotFound".into(), "Service token with ID 'abc' not found".into())
    );
    client.token = None;
    for header in ["Basic dXNlcjpwYXNzd29yZA==", "Bearer", "Bearer "] {
        let sent = [("authorization", header)];
        let answer = client.send("GET", &myapp("", ""), &sent, None).unwrap();
        let (status, error, _) = answer.error();
        assert_eq!((status, error.as_str()), (403, "TokenError"), "{header}");
    }

    let mut member = fake.member();
    fake.settings(json!({"authSecret": "rotated"}));
    assert_eq!(
        member.get(&myapp("", "")).error(),
        (403, "TokenError".into(), "invalid signature".into())
    );
}

#[test]
fn expired_token_is_403_or_401_as_configured() {
    let fake = with_identity(|identity| identity["accessTokenTTL"] = json!(60));
    let mut client = fake.member();
    fake.advance(59);
    assert_eq!(client.get(&myapp("", "")).status, 200);
    fake.advance(2);
    let message = "Your token has expired. Please re-authenticate.";
    assert_eq!(client.get(&myapp("", "")).error(), (403, "TokenError".into(), message.into()));
    fake.settings(json!({"tokenExpired401": true}));
    assert_eq!(client.get(&myapp("", "")).error().0, 401);
}

#[test]
fn api_calls_count_as_token_uses() {
    let fake = with_identity(|identity| identity["accessTokenNumUsesLimit"] = json!(2));
    let mut client = fake.member();
    assert_eq!(client.get(&myapp("", "")).status, 200);
    assert_eq!(client.get(&myapp("", "")).status, 200);
    assert_eq!(
        client.get(&myapp("", "")).error(),
        unauthorized("Failed to authorize: token usage limit reached")
    );
    assert_eq!(renew(&mut client).error(), unauthorized("Cannot renew exhausted access token"));
    assert_eq!(fake.member().get(&myapp("", "")).status, 200);
}

#[test]
fn new_renewal_design_clamps_the_lifetime() {
    let fake = with_identity(|identity| {
        identity["accessTokenTTL"] = json!(60);
        identity["accessTokenMaxTTL"] = json!(100);
    });
    let mut client = fake.member();
    fake.advance(50);
    let renewed = renew(&mut client);
    let left = renewed.json()["expiresIn"].as_u64().unwrap();
    assert!((45..=50).contains(&left), "{left}");
    client.token = renewed.json()["accessToken"].as_str().map(str::to_owned);
    assert_eq!(client.get(&myapp("", "")).status, 200);
}

#[test]
fn old_renewal_design_revokes_a_token_that_asks_for_too_much() {
    let fake = FakeInfisical::start(&[]);
    fake.settings(json!({"tokenDesign": "old"}));
    let mut client = fake.member();
    fake.advance(1);
    assert_eq!(renew(&mut client).error().0, 401);
    assert_eq!(client.get(&myapp("", "")).error(), unauthorized("No identity access token found"));
}

#[test]
fn revocation_is_by_token_by_client_secret_or_by_identity() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let body = json!({"accessToken": client.token});
    let revoked = client.write("POST", "/api/v1/auth/token/revoke", &body);
    assert_eq!(revoked.json(), json!({"message": "Successfully revoked access token"}));
    assert_eq!(
        client.get(&myapp("", "")).error(),
        unauthorized("Failed to authorize: token has been revoked")
    );

    let mut client = fake.member();
    fake.control("POST", "/revoke", &json!({"token": client.token}));
    assert_eq!(client.get(&myapp("", "")).status, 401);

    let mut client = fake.member();
    fake.control("POST", "/revoke", &json!({"identityId": IDENTITY}));
    assert_eq!(
        client.get(&myapp("", "")).error(),
        unauthorized("Failed to authorize: identity tokens have been revoked")
    );
    let mut client = fake.member();
    assert_eq!(client.get(&myapp("", "")).status, 200);

    fake.control("POST", "/revoke", &json!({"clientSecretId": SECRET_ID}));
    assert_eq!(
        client.get(&myapp("", "")).error(),
        unauthorized("Failed to authorize: client secret has been revoked")
    );
    assert_eq!(client.login("hunter2").error().2, "Invalid credentials");
}

#[test]
fn unusual_lifetimes_are_issued() {
    let fake = with_identity(|identity| identity["accessTokenPeriod"] = json!(120));
    fake.settings(json!({"clockSkewSeconds": -3600}));
    let grant = fake.client().login("hunter2");
    assert_eq!(grant.json()["expiresIn"], 120);
    assert_eq!(grant.json()["accessTokenMaxTTL"], 1_000_000_000);
    let now = fake.control("POST", "/clock", &json!({"advanceSeconds": 0}));
    let behind = now["nowMs"].as_u64().unwrap() / 1000 - claims(&grant)["iat"].as_u64().unwrap();
    assert!((3600..3660).contains(&behind), "{behind}");
    assert_eq!(fake.member().get(&myapp("", "")).status, 200);

    fake.settings(json!({"expiresInZero": true}));
    let grant = fake.client().login("hunter2");
    assert_eq!(grant.json()["expiresIn"], 0);
    assert_eq!(claims(&grant).get("exp"), None);
    assert_eq!(fake.member().get(&myapp("", "")).status, 200);
}

#[test]
fn deleted_identity_renews_a_token_that_is_then_refused() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let state = fake.control("GET", "/state", &Value::Null);
    fake.control("DELETE", "/identity", &json!({"identity": IDENTITY}));
    let no_member = unauthorized("Identity is not a member of the organization");
    assert_eq!(client.get(&myapp("", "")).error(), no_member);
    let renewed = renew(&mut client);
    assert_eq!(renewed.status, 200);
    client.token = renewed.json()["accessToken"].as_str().map(str::to_owned);
    assert_eq!(client.get(&myapp("", "")).error(), no_member);
    assert_eq!(client.login("hunter2").error(), unauthorized("Invalid credentials"));

    fake.control("PUT", "/identity", &state["identities"][0]);
    assert_eq!(fake.member().get(&myapp("", "")).status, 200);
}

#[test]
fn inactive_membership_refuses_the_token_and_not_the_login() {
    let fake = with_identity(|identity| identity["active"] = json!(false));
    assert_eq!(
        fake.member().get(&myapp("", "")).error(),
        unauthorized("Identity organization membership is inactive")
    );
}

#[test]
fn token_without_an_expiry_ends_after_90_days() {
    let fake = FakeInfisical::start(&[]);
    fake.settings(json!({"expiresInZero": true}));
    let mut client = fake.member();
    fake.advance(7_776_000);
    assert_eq!(client.get(&myapp("", "")).status, 200);
    fake.advance(1);
    assert_eq!(
        client.get(&myapp("", "")).error(),
        unauthorized("Identity access token exceeded max age, please re-authenticate")
    );
}

#[test]
fn contended_lock_is_a_429_without_retry_after() {
    let fake = FakeInfisical::start(&[]);
    fake.fault(json!({"kind": "lock-contended"}));
    let answer = fake.client().login("hunter2");
    assert!(!answer.headers.contains_key("retry-after"));
    let message = "Failed to acquire lock: rate limit exceeded".to_owned();
    assert_eq!(answer.error(), (429, "RateLimitExceeded".into(), message));
    assert_eq!(fake.client().get("/api/status").status, 200);
}
