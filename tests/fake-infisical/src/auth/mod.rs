//! Machine identities: logins and their tokens.

pub mod address;
pub mod aws;
pub mod azure;
pub mod gcp;
pub mod jwt;
pub mod kubernetes;
pub mod lockout;
pub mod login;
pub mod permissions;
pub mod renewal;
pub mod rs256;
pub mod sts;
pub mod tls_cert;
pub mod token_login;
pub mod tokens;

use serde::Serialize;

/// The answer to a login or a renewal.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    pub access_token: String,
    pub expires_in: u64,
    #[serde(rename = "accessTokenMaxTTL")]
    pub access_token_max_ttl: u64,
    pub token_type: &'static str,
}
