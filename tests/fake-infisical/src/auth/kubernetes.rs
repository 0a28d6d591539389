//! Kubernetes auth: a service account's token, which the cluster reviews for the server, as
//! `identity-kubernetes-auth-service.ts` requests. The fake includes the cluster, with
//! kube-apiserver's messages.

use serde::Deserialize;
use serde_json::{Value, json};

use super::rs256::Issuer;
use crate::api::error::ApiError;
use crate::fake::FakeInfisical;
use crate::state::method::is_like;

/// The properties of a service account's token.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    namespace: String,
    name: String,
    #[serde(default = "api_server")]
    audience: String,
    /// Negative: expired from the beginning
    #[serde(default = "an_hour")]
    lifetime_seconds: i64,
    #[serde(default)]
    forged: bool,
}

fn api_server() -> String {
    "https://kubernetes.default.svc.cluster.local".to_owned()
}

fn an_hour() -> i64 {
    3600
}

/// The cluster's clock is the real one, however far a test has advanced Infisical's.
pub fn mint(fake: &FakeInfisical, order: &Order) -> String {
    let now = fake.clock.real() / 1000;
    let Order { namespace, name, audience, .. } = order;
    let claims = json!({
        "aud": [audience],
        "exp": now.saturating_add_signed(order.lifetime_seconds),
        "iat": now,
        "iss": api_server(),
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name}},
        "nbf": now,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
    });
    Issuer::Kubernetes.sign(&claims, order.forged)
}

pub fn verify(fake: &FakeInfisical, identity: &str, jwt: &str) -> Result<(), ApiError> {
    let identity = fake.state.identity(identity);
    let settings =
        identity.and_then(|identity| identity.methods.kubernetes.as_ref()).ok_or_else(|| {
            ApiError::not_found(
                "Kubernetes auth method not found for identity, did you configure Kubernetes auth?",
            )
        })?;
    let claims = review(fake, jwt, &settings.allowed_audience).map_err(|why| {
        let message = format!("[invalid bearer token, {why}]");
        ApiError::new(401, "KubernetesTokenReviewError", message)
    })?;
    let subject = claims["sub"].as_str().unwrap_or_default();
    let parts: Vec<&str> = subject.split(':').collect();
    let ["system", "serviceaccount", namespace, name] = parts[..] else {
        let message = format!(
            "Invalid Kubernetes service account username format: \"{subject}\". \
             Expected format: system:serviceaccount:<namespace>:<name>"
        );
        return Err(ApiError::new(400, "KubernetesUsernameParseError", message));
    };
    for (list, value, what) in [
        (&settings.allowed_namespaces, namespace, "namespace"),
        (&settings.allowed_names, name, "name"),
    ] {
        if !list.allows_by(|item| is_like(value, item)) {
            return Err(ApiError::unauthorized(format!("Access denied: K8s {what} not allowed.")));
        }
    }
    Ok(())
}

/// A `TokenReview`: the token's claims, or its fault.
fn review(fake: &FakeInfisical, jwt: &str, audience: &str) -> Result<Value, String> {
    let claims = Issuer::Kubernetes
        .verify(jwt)
        .map_err(|_| "square/go-jose: error in cryptographic primitive".to_owned())?;
    if fake.clock.real() / 1000 >= claims["exp"].as_u64().unwrap_or(0) {
        return Err("service account token has expired".to_owned());
    }
    let audiences = claims["aud"].as_array().cloned().unwrap_or_default();
    if !audience.is_empty() && !audiences.iter().any(|one| one == audience) {
        return Err(format!(
            "token audiences {} is invalid for the target audiences [\"{audience}\"]",
            Value::Array(audiences)
        ));
    }
    Ok(claims)
}
