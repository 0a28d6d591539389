//! Tokens of other issuers than the server: Google, Azure, a Kubernetes cluster and those of JWTs. All sign with one
//! key of the fake's, each under its own key id.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};

/// A public key pair: only fakes accept its signatures. Made by `openssl genpkey`.
static KEY: &[u8] = include_bytes!("rs256.pk8");

/// The issuer of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    Google,
    Azure,
    Kubernetes,
    Jwt,
    Oidc,
    Spiffe,
}

/// The faults of an issuer's token.
#[derive(Debug, PartialEq, Eq)]
pub enum Flaw {
    Malformed,
    /// Signed with a key that the issuer does not have
    UnknownKey,
    WrongSignature,
}

impl Issuer {
    fn key_id(self) -> &'static str {
        match self {
            Self::Google => "google-key-of-the-fake",
            Self::Azure => "azure-key-of-the-fake",
            Self::Kubernetes => "cluster-key-of-the-fake",
            Self::Jwt => "jwt-key-of-the-fake",
            Self::Oidc => "oidc-key-of-the-fake",
            Self::Spiffe => "spiffe-key-of-the-fake",
        }
    }

    /// A signed token; a forged one has the right key id and a wrong signature.
    pub fn sign(self, claims: &Value, forged: bool) -> String {
        let header = json!({"alg": "RS256", "kid": self.key_id(), "typ": "JWT"});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let key = key();
        let mut signature = vec![0; key.public().modulus_len()];
        let message = if forged { "something else" } else { signed.as_str() };
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .expect("the key signs whatever it is given");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token that this issuer has signed, without checking them.
    pub fn verify(self, token: &str) -> Result<Value, Flaw> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Flaw::Malformed)?;
        let (header, claims) = (decode(header)?, decode(claims)?);
        if header["kid"] != self.key_id() {
            return Err(Flaw::UnknownKey);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Flaw::Malformed)?;
        let right = header["alg"] == "RS256"
            && UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key().public().as_ref())
                .verify(signed.as_bytes(), &signature)
                .is_ok();
        if right { Ok(claims) } else { Err(Flaw::WrongSignature) }
    }
}

fn key() -> RsaKeyPair {
    RsaKeyPair::from_pkcs8(KEY).expect("rs256.pk8 is a key")
}

fn decode(part: &str) -> Result<Value, Flaw> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Flaw::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_accepts_only_its_own_tokens() {
        let claims = json!({"aud": "a"});
        let token = Issuer::Google.sign(&claims, false);
        assert_eq!(Issuer::Google.verify(&token), Ok(claims.clone()));
        assert_eq!(Issuer::Azure.verify(&token), Err(Flaw::UnknownKey));
        let forged = Issuer::Google.sign(&claims, true);
        assert_eq!(Issuer::Google.verify(&forged), Err(Flaw::WrongSignature));
        for junk in ["", "a.b", "a.b.c"] {
            assert_eq!(Issuer::Google.verify(junk), Err(Flaw::Malformed), "{junk}");
        }
        let [_, body, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
        let unsigned = json!({"alg": "none", "kid": Issuer::Google.key_id()}).to_string();
        let unsigned = format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode(unsigned));
        assert_eq!(Issuer::Google.verify(&unsigned), Err(Flaw::WrongSignature));
    }
}
