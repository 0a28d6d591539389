//! Settings of the server as a whole. Faults affect single requests.

use serde::{Deserialize, Serialize};

/// `GET` and `PATCH /settings` on the control port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    pub token_design: TokenDesign,
    /// Signs every token. It survives a restart of the fake, as with a real server; a change makes
    /// every issued token an "invalid signature".
    pub auth_secret: String,
    /// Logins answer `expiresIn: 0`, with a token that has no `exp`
    pub expires_in_zero: bool,
    /// An expired token is a 401, as documented, not the 403 of the code
    #[serde(rename = "tokenExpired401")]
    pub token_expired_401: bool,
    /// A rejected GCP ID token is a 500, as until 2026
    #[serde(rename = "gcpRefusal500")]
    pub gcp_refusal_500: bool,
    /// AWS and GCP identities without an allowlist are refused, as from v0.167 on. The texts are those of the server's
    /// other resources with such logins
    pub require_trust_binding: bool,
    /// The error of the server's wall clock: shifts `iat`, `exp` and the `Date` header
    pub clock_skew_seconds: i64,
    /// A value that may be described but not read is a placeholder in a 200, not a 403
    pub hidden_values: bool,
    /// Requests per minute, route and client address, as in the cloud; none when self-hosted
    pub rate_limit: Option<RateLimit>,
    /// The delay of a change of permissions. The server has 10; 0 makes changes take effect at once
    pub permission_cache_seconds: u64,
    /// How long the tag of a listing is kept after the project's last 200
    pub etag_seconds: u64,
    /// The result of a reference to nothing or to an empty value. By default the dialect decides
    pub unresolved_references: Option<Unresolved>,
    /// v3's batch route accepts `projectSlug` only, as in 2024
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

/// The result of an unresolvable reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unresolved {
    /// Nothing: the server of July 2026
    Empty,
    /// Itself, as it is written: older and newer servers
    Text,
}

/// The design of access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenDesign {
    /// 2026: claims are the truth, and a renewal is clamped to what is left of the maximum
    New,
    /// Before: a row for each token, and a renewal past the maximum deletes a live one
    Old,
}

/// Each route has its own window, of its category's size unless it has its own; routes with neither
/// are unlimited.
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
