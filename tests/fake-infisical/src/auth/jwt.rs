//! Real JSON web tokens, because clients read `exp` and `iat` in them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The claims of the 2026 design. They suffice for validation and renewal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    pub identity_id: String,
    pub identity_name: String,
    pub auth_method: String,
    pub org_id: String,
    pub root_org_id: String,
    pub parent_org_id: String,
    /// None for other methods than universal auth
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_secret_id: String,
    pub identity_access_token_id: String,
    pub jti: String,
    pub ip_restriction_enabled: bool,
    #[serde(rename = "accessTokenTTL")]
    pub access_token_ttl: u64,
    #[serde(rename = "accessTokenMaxTTL")]
    pub access_token_max_ttl: u64,
    pub access_token_period: u64,
    pub creation_epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_uses_limit: Option<u64>,
    pub auth_token_type: String,
    pub iat: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
}

/// The faults of a token, in the order in which `jsonwebtoken` checks.
#[derive(Debug, PartialEq, Eq)]
pub enum Flaw {
    Malformed,
    ForeignAlgorithm,
    WrongSignature,
    Expired,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

pub fn sign(claims: &Claims, secret: &str) -> String {
    let claims = serde_json::to_vec(claims).expect("claims always serialise");
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
    let signature = mac(secret, &signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// `now` in seconds, by the server's own and possibly skewed clock.
pub fn verify(token: &str, secret: &str, now: u64) -> Result<Claims, Flaw> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(Flaw::Malformed)?;
    let header: Header = decode(header)?;
    if header.alg != "HS256" {
        return Err(Flaw::ForeignAlgorithm);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Flaw::Malformed)?;
    mac(secret, signed).verify_slice(&signature).map_err(|_| Flaw::WrongSignature)?;
    let claims: Claims = decode(claims)?;
    if claims.exp.is_some_and(|exp| now >= exp) {
        return Err(Flaw::Expired);
    }
    Ok(claims)
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Flaw> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Flaw::Malformed)
}

fn mac(secret: &str, signed: &str) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(signed.as_bytes());
    mac
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn claims() -> Claims {
        Claims {
            identity_id: "i".to_owned(),
            identity_name: "n".to_owned(),
            auth_method: "universal-auth".to_owned(),
            org_id: "o".to_owned(),
            root_org_id: "o".to_owned(),
            parent_org_id: "o".to_owned(),
            client_secret_id: "c".to_owned(),
            identity_access_token_id: "t".to_owned(),
            jti: "t".to_owned(),
            ip_restriction_enabled: false,
            access_token_ttl: 60,
            access_token_max_ttl: 100,
            access_token_period: 0,
            creation_epoch: 1000,
            num_uses_limit: None,
            auth_token_type: "identityAccessToken".to_owned(),
            iat: 1000,
            exp: Some(1060),
        }
    }

    #[test]
    fn token_has_three_parts_and_a_signature() {
        let token = sign(&claims(), "s");
        assert_eq!(token.split('.').count(), 3);
        assert_eq!(verify(&token, "s", 1059).unwrap().identity_id, "i");
        assert_eq!(verify(&token, "s", 1060).unwrap_err(), Flaw::Expired);
        assert_eq!(verify(&token, "z", 1000).unwrap_err(), Flaw::WrongSignature);
    }

    #[test]
    fn verify_rejects_malformed_and_unsigned_tokens() {
        for junk in ["", "a.b", "a.b.c", "st.x.y.z"] {
            assert_eq!(verify(junk, "s", 0).unwrap_err(), Flaw::Malformed, "{junk}");
        }
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let unsigned = format!("{header}.e30.");
        assert_eq!(verify(&unsigned, "s", 0).unwrap_err(), Flaw::ForeignAlgorithm);
    }
}
