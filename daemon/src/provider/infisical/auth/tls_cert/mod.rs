//! tls-cert: a client certificate. The login is a request over mutual TLS, whose certificate a proxy passes to Infisical.
//!
//! Source: Infisical's `identity-tls-cert-auth-service.ts`, which checks the issuer, the validity and the names.

mod certificate;
mod token_key;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use psi_common::{SecretBytes, SecretString};
use reqwest::Url;
use rustls::Error;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SigningKey};
use serde_json::json;

use super::secret::SecretSource;
use super::{LoginCredential, Method, NoCredential};
use crate::keys::pkcs11::{KeyChoice, Token};
use crate::provider::CredentialExpiry;
use crate::provider::infisical::client::{ClientCertificate, LoginRequest};
use certificate::Chain;
use token_key::TokenKey;

const KEY: &str = "the private key";

/// An identity with a client certificate.
pub(crate) struct TlsCert {
    /// The identity's id.
    pub(crate) identity_id: String,
    /// The certificate in PEM, followed by its intermediates. It is read at each login.
    pub(crate) certificate_file: PathBuf,
    /// Its private key.
    pub(crate) key: PrivateKey,
    /// Where the login is made.
    pub(crate) login_url: Url,
}

/// Where a private key is.
pub(crate) enum PrivateKey {
    /// In a credential or a file, in PEM.
    Stored(SecretSource),
    /// On a PKCS#11 token, which signs.
    OnToken(Option<Token>, KeyChoice),
}

#[async_trait]
impl Method for TlsCert {
    fn is_local(&self) -> bool {
        true
    }

    fn identity(&self) -> String {
        format!("tls-cert identity {}", self.identity_id)
    }

    fn remedy(&self) -> String {
        format!(
            "give the identity's TLS Certificate auth in Infisical the CA that issued {path} and the names that it has \
             (`openssl x509 -in {path} -noout -issuer -subject -ext subjectAltName`), and have the proxy at {} pass the \
             certificate on",
            self.login_url,
            path = self.certificate_file.display(),
        )
    }

    fn missing_remedy(&self) -> String {
        let certificate = self.certificate_file.display();
        match &self.key {
            PrivateKey::Stored(source) => format!(
                "write the certificate to {certificate}, readable for psid's user, and {}",
                source.replace("its private key in PEM", "key_file")
            ),
            PrivateKey::OnToken(..) => format!(
                "write the certificate of the token's key to {certificate}, readable for psid's user, and check \
                 the token with `psictl hsm preflight`"
            ),
        }
    }

    fn expiry(&self) -> Option<CredentialExpiry> {
        let pem = std::fs::read(&self.certificate_file).ok()?;
        let path = self.certificate_file.display();
        Some(CredentialExpiry {
            identity: self.identity(),
            credential: format!("the certificate in {path}"),
            validity: Chain::parse(&pem).ok()?.validity,
            is_rotated: false,
            remedy: format!(
                "have its CA issue another one, and write it to {path}, which psid reads at each login"
            ),
        })
    }

    async fn credential(&self) -> Result<LoginCredential, NoCredential> {
        let path = self.certificate_file.display();
        let read = tokio::fs::read(&self.certificate_file).await;
        let pem =
            read.map_err(|error| NoCredential::new(format!("the certificate in {path}: {error}")))?;
        let chain = Chain::parse(&pem)
            .map_err(|why| NoCredential::new(format!("the certificate in {path} {why}")))?;
        let key = self.key.open().await.map_err(NoCredential::new)?;
        let credential = SecretString::new(BASE64_STANDARD.encode(chain.leaf()));
        let expired = chain.is_expired();
        let certified = CertifiedKey::new(chain.certificates, key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(_)) => {
                let what =
                    format!("{KEY} {} does not belong to the certificate in {path}", self.key);
                return Err(NoCredential::new(what));
            }
            // A certificate of version 1, say.
            Err(error) => {
                let what = format!("the certificate in {path} is none that TLS can use: {error}");
                return Err(NoCredential::new(what));
            }
        }
        let (certified, url) = (Arc::new(certified), self.login_url.clone());
        let body = json!({ "identityId": self.identity_id });
        let certificate = Some(ClientCertificate { certified, url });
        let request = LoginRequest::new("tls-cert-auth", body, credential);
        Ok(LoginCredential::Request(LoginRequest { expired, certificate, ..request }))
    }
}

impl PrivateKey {
    async fn open(&self) -> Result<Arc<dyn SigningKey>, String> {
        match self {
            Self::Stored(source) => {
                let pem = source.read(KEY).await?;
                parse_key(&pem).map_err(|why| format!("{KEY} {self} {why}"))
            }
            Self::OnToken(token, choice) => {
                // The config is refused without one.
                let token = token.clone().ok_or("there is no [providers.pkcs11]")?;
                let key = TokenKey::open(token, choice.clone()).await;
                key.map(|key| Arc::new(key) as Arc<dyn SigningKey>)
            }
        }
    }
}

impl std::fmt::Display for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stored(source) => write!(f, "in {source}"),
            Self::OnToken(_, KeyChoice::Label(label)) => write!(f, "'{label}' on the token"),
            Self::OnToken(_, KeyChoice::Id(_)) => f.write_str("on the token"),
        }
    }
}

/// A key in PEM.
fn parse_key(pem: &SecretBytes) -> Result<Arc<dyn SigningKey>, &'static str> {
    let pem = pem.expose_secret();
    if pem.windows(b"ENCRYPTED".len()).any(|word| word == b"ENCRYPTED") {
        return Err(
            "has a passphrase, which psid cannot ask for: remove it with `openssl pkey`, and seal the key",
        );
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "holds no private key in PEM")?;
    any_supported_type(&key).map_err(|_| "is none that TLS can use: RSA, P-256, P-384 or Ed25519")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(pem: &str) -> &'static str {
        parse_key(&SecretBytes::new(pem.as_bytes().to_vec())).err().unwrap()
    }

    #[test]
    fn key_that_cannot_sign_is_refused() {
        for (pem, words) in [
            ("", "holds no private key"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no private"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is none that TLS"),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "passphrase",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
                "passphrase",
            ),
        ] {
            assert!(why(pem).contains(words), "{pem}: {}", why(pem));
        }
    }
}
