//! Logins by a token that an issuer of one's own signed, and static access tokens.

use serde_json::{Value, json};

use crate::support::{Answer, FakeInfisical, IDENTITY, myapp, state};

fn with(method: &str, settings: &Value) -> FakeInfisical {
    let mut state = state();
    state["identities"][0]["methods"] = json!({method: settings});
    FakeInfisical::with_state(&state, &[])
}

fn token(fake: &FakeInfisical, issuer: &str, order: &Value) -> String {
    let mut claims = json!({"iss": "https://issuer.example", "sub": "spiffe://example.org/a", "aud": ["infisical"]});
    claims
        .as_object_mut()
        .unwrap()
        .extend(order["claims"].as_object().cloned().unwrap_or_default());
    let mut whole = order.clone();
    whole["issuer"] = issuer.into();
    whole["claims"] = claims;
    fake.control("POST", "/issuer/token", &whole)["token"].as_str().unwrap().to_owned()
}

/// A listing with this access token.
fn listing(fake: &FakeInfisical, token: &str) -> Answer {
    let mut client = fake.client();
    client.token = Some(token.to_owned());
    client.get(&myapp("", ""))
}

fn login(fake: &FakeInfisical, method: &str, jwt: &str) -> Answer {
    let body = json!({"identityId": IDENTITY, "jwt": jwt});
    fake.client().write("POST", &format!("/api/v1/auth/{method}-auth/login"), &body)
}

#[test]
fn each_issuer_admits_to_its_own_method_only() {
    for (issuer, other) in [("jwt", "oidc"), ("oidc", "spiffe"), ("spiffe", "jwt")] {
        let fake = with(issuer, &json!({}));
        let granted = login(&fake, issuer, &token(&fake, issuer, &json!({})));
        assert_eq!(granted.status, 200, "{}", granted.text());
        let access = granted.json()["accessToken"].as_str().unwrap().to_owned();
        assert_eq!(listing(&fake, &access).status, 200);
        assert_eq!(login(&fake, issuer, &token(&fake, other, &json!({}))).status, 401);
        let (status, _, message) = login(&fake, other, "a.b.c").error();
        assert_eq!(status, 404);
        assert!(
            message.contains("auth method not found for identity, did you configure"),
            "{message}"
        );
    }
}

#[test]
fn refusals_have_the_server_s_words() {
    let expired = json!({"lifetimeSeconds": -1});
    let forged = json!({"forged": true});
    let early = json!({"claims": {"nbf": 4_000_000_000_u64}});
    let stranger = json!({"claims": {"iss": "https://x", "sub": "spiffe://x/a", "aud": "x"}});
    let bound = json!({"boundIssuer": "https://issuer.example", "boundClaims": {"a.b": "1, 2"}});
    let claims = json!({"claims": {"a": {"b": 3}}});
    for (method, settings, order, status, message) in [
        (
            "jwt",
            json!({}),
            &expired,
            401,
            "Access denied: JWT verification failed with all keys. Errors - jwt expired",
        ),
        (
            "jwt",
            json!({}),
            &forged,
            401,
            "Access denied: JWT verification failed with all keys. Errors - invalid signature",
        ),
        ("jwt", bound.clone(), &stranger, 403, "Access denied: issuer mismatch"),
        ("jwt", bound.clone(), &json!({}), 401, "Access denied: token has no a.b field"),
        ("jwt", bound.clone(), &claims, 401, "Access denied: claim mismatch for field a.b"),
        (
            "jwt",
            json!({}),
            &early,
            401,
            "Access denied: JWT verification failed with all keys. Errors - jwt not active",
        ),
        ("oidc", json!({}), &early, 401, "Access denied: jwt not active"),
        ("oidc", json!({}), &expired, 401, "Access denied: jwt expired"),
        ("oidc", json!({}), &forged, 401, "Access denied: invalid signature"),
        (
            "oidc",
            json!({}),
            &stranger,
            401,
            "Access denied: jwt issuer invalid. expected: https://issuer.example",
        ),
        (
            "oidc",
            json!({"boundAudiences": "a, b"}),
            &json!({}),
            401,
            "Access denied: OIDC audience not allowed.",
        ),
        ("oidc", bound, &claims, 401, "Access denied: OIDC claim not allowed."),
        ("spiffe", json!({}), &expired, 401, "JWT-SVID has expired"),
        ("spiffe", json!({}), &forged, 401, "JWT-SVID signature verification failed"),
        ("spiffe", json!({}), &stranger, 401, "JWT-SVID audience validation failed"),
        (
            "spiffe",
            json!({"allowedSpiffeIds": "spiffe://example.org/b"}),
            &json!({}),
            401,
            "Access denied",
        ),
    ] {
        let fake = with(method, &settings);
        let answer = login(&fake, method, &token(&fake, method, order)).error();
        assert_eq!((answer.0, answer.2.as_str()), (status, message), "{method} {settings}");
    }
    let fake = with("jwt", &json!({}));
    let (status, name, message) = login(&fake, "jwt", "no token").error();
    assert_eq!(
        (status, name.as_str(), message.as_str()),
        (401, "UnauthorizedError", "Invalid JWT")
    );
}

#[test]
fn static_token_reads_secrets_until_it_is_revoked() {
    let fake = FakeInfisical::with_state(&state(), &[]);
    let made = fake.control("POST", "/access-token", &json!({"identity": IDENTITY}));
    let token = made["token"].as_str().unwrap();
    assert_eq!(listing(&fake, token).status, 200);
    fake.control("POST", "/revoke", &json!({"token": token}));
    let (status, _, message) = listing(&fake, token).error();
    assert_eq!((status, message.as_str()), (401, "Failed to authorize: token has been revoked"));
}
