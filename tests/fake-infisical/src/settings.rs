//! Switches of the server as a whole. What breaks single requests is a fault instead.

use serde::{Deserialize, Serialize};

/// `GET` and `PATCH /settings` on the control port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    pub token_design: TokenDesign,
    /// Signs every token. It outlives a restart of the fake, as a real server's does;
    /// changing it makes every token out there an "invalid signature".
    pub auth_secret: String,
    /// Logins answer `expiresIn: 0`, with a token that has no `exp`
    pub expires_in_zero: bool,
    /// An expired token is a 401, as the documentation says, not the 403 that the code sends
    #[serde(rename = "tokenExpired401")]
    pub token_expired_401: bool,
    /// A GCP ID token that is not taken is a 500, as until 2026
    #[serde(rename = "gcpRefusal500")]
    pub gcp_refusal_500: bool,
    /// AWS and GCP identities without a list of what may log in are refused, as from v0.167 on. The texts are
    /// those of the server's other resources that log in so
    pub require_trust_binding: bool,
    /// How far the server's wall clock is off: shifts `iat`, `exp` and the `Date` header
    pub clock_skew_seconds: i64,
    /// What an identity may describe but not read comes as a placeholder in a 200, not as a 403
    pub hidden_values: bool,
    /// Requests per minute, route and client address, as in the cloud; none when self-hosted
    pub rate_limit: Option<RateLimit>,
    /// How long a change of permissions goes unnoticed. The server has 10; 0 makes changes act at once
    pub permission_cache_seconds: u64,
    /// How long the tag of a listing is kept after the project's last 200
    pub etag_seconds: u64,
    /// What becomes of a reference that leads nowhere, or to an empty value. By default the
    /// dialect decides
    pub unresolved_references: Option<Unresolved>,
    /// v3's batch route knows `projectSlug` alone, as in 2024
    pub batch_by_slug: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            token_design: TokenDesign::New,
            auth_secret: "fake-infisical-auth-secret".to_owned(),
            expires_in_zero: false,
            token_expired_401: false,
            gcp_refusal_500: false,
            require_trust_binding: false,
            clock_skew_seconds: 0,
            hidden_values: false,
            rate_limit: None,
            permission_cache_seconds: 0,
            etag_seconds: 900,
            unresolved_references: None,
            batch_by_slug: false,
        }
    }
}

/// What a reference that leads nowhere turns into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unresolved {
    /// Nothing: the server of July 2026
    Empty,
    /// Itself, as it is written: older and newer servers
    Text,
}

/// How the server keeps access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenDesign {
    /// 2026: claims are the truth, and a renewal is clamped to what is left of the maximum
    New,
    /// Before: a row for each token, and a renewal past the maximum deletes a live one
    Old,
}

/// Each route has its own window, of its category's size unless it has one of its own; what is
/// named by neither is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RateLimit {
    pub read: Option<u32>,
    pub write: Option<u32>,
    pub secret: Option<u32>,
    pub list: Option<u32>,
    pub get: Option<u32>,
    pub login: Option<u32>,
    pub imports: Option<u32>,
}
