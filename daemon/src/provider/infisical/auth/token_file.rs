//! kubernetes, jwt, oidc and spiffe: a JSON web token in a file, which somebody else keeps fresh.
//!
//! Sources: Infisical's `identity-kubernetes-auth-service.ts`, which submits the token to the cluster for review,
//! `identity-jwt-auth-service.ts`, `identity-oidc-auth-service.ts` and `identity-spiffe-auth-service.ts`.

use std::path::PathBuf;

use async_trait::async_trait;
use psi_common::SecretBytes;

use super::binding;
use super::jwt::{self, TokenLogin};
use super::{LoginCredential, Method, NoCredential};
use crate::provider::CredentialExpiry;
use crate::provider::infisical::client::LoginRequest;

/// Who signs the token of a [`TokenFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A Kubernetes cluster, for a service account.
    Kubernetes,
    /// Whoever has the key that the identity's JWT auth names.
    Jwt,
    /// An OpenID Connect provider.
    Oidc,
    /// A SPIFFE trust domain: a JWT-SVID.
    Spiffe,
}

/// An identity that is known by a token in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile {
    /// Who signs the token.
    pub kind: TokenKind,
    /// The identity's id.
    pub identity_id: String,
    /// The file with the token. It is read at each login, because kubelet or another agent rotates it.
    pub token_file: PathBuf,
}

impl TokenKind {
    /// The method's name in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Jwt => "jwt",
            Self::Oidc => "oidc",
            Self::Spiffe => "spiffe",
        }
    }

    fn route(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes-auth",
            Self::Jwt => "jwt-auth",
            Self::Oidc => "oidc-auth",
            Self::Spiffe => "spiffe-auth",
        }
    }

    /// The token, for messages.
    fn token(self) -> &'static str {
        match self {
            Self::Kubernetes => "the service account's token",
            Self::Jwt => "the JSON web token",
            Self::Oidc => "the OIDC token",
            Self::Spiffe => "the JWT-SVID",
        }
    }
}

#[async_trait]
impl Method for TokenFile {
    fn is_local(&self) -> bool {
        true
    }

    fn identity(&self) -> String {
        format!("{} identity {}", self.kind.name(), self.identity_id)
    }

    fn remedy(&self) -> String {
        match self.kind {
            TokenKind::Kubernetes => {
                "give the identity's Kubernetes auth in Infisical this service account, its namespace and \
                 audience, and a token reviewer that works"
            }
            TokenKind::Jwt => {
                "give the identity's JWT auth in Infisical this issuer, subject and audience, and the key that \
                 signs the token"
            }
            TokenKind::Oidc => {
                "give the identity's OIDC auth in Infisical this issuer, subject and audience, and a discovery \
                 URL that Infisical reaches"
            }
            TokenKind::Spiffe => {
                "give the identity's SPIFFE auth in Infisical this SPIFFE ID, its audience, and the trust \
                 domain's bundle"
            }
        }
        .into()
    }

    fn missing_remedy(&self) -> String {
        let path = self.token_file.display();
        match self.kind {
            TokenKind::Kubernetes => {
                format!("have kubelet project the service account's token to {path}")
            }
            TokenKind::Jwt | TokenKind::Oidc => format!(
                "have the token's issuer write it to {path}, readable for psid's user, or correct token_file"
            ),
            TokenKind::Spiffe => format!(
                "have spiffe-helper write the JWT-SVID to {path}, readable for psid's user, or correct token_file"
            ),
        }
    }

    fn expiry(&self) -> Option<CredentialExpiry> {
        let token = SecretBytes::new(std::fs::read(&self.token_file).ok()?);
        let text = std::str::from_utf8(token.expose_secret()).ok()?;
        Some(CredentialExpiry {
            identity: self.identity(),
            credential: format!("{} in {}", self.kind.token(), self.token_file.display()),
            validity: jwt::validity(text.trim())?,
            is_rotated: true,
            remedy: self.missing_remedy(),
        })
    }

    async fn credential(&self) -> Result<LoginCredential, NoCredential> {
        let (token, path) = (self.kind.token(), self.token_file.display());
        let read = tokio::fs::read(&self.token_file).await.map(SecretBytes::new);
        let bytes =
            read.map_err(|error| NoCredential::new(format!("{token} in {path}: {error}")))?;
        jwt::login_request(&TokenLogin {
            route: self.kind.route(),
            identity_id: &self.identity_id,
            token: bytes.expose_secret(),
            origin: &path.to_string(),
            hint_at_500: None,
        })
        .map(LoginCredential::Request)
    }

    async fn binding(&self, request: &LoginRequest) -> Option<String> {
        binding::of_token(self.kind.token(), &request.credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn made(kind: TokenKind, text: &[u8]) -> Result<LoginCredential, NoCredential> {
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, text).unwrap();
        TokenFile { kind, identity_id: "i-1".into(), token_file }.credential().await
    }

    #[tokio::test]
    async fn each_kind_has_its_route() {
        for (kind, route) in [
            (TokenKind::Kubernetes, "kubernetes-auth"),
            (TokenKind::Jwt, "jwt-auth"),
            (TokenKind::Oidc, "oidc-auth"),
            (TokenKind::Spiffe, "spiffe-auth"),
        ] {
            let Ok(LoginCredential::Request(request)) = made(kind, b"a.b.c\n").await else {
                panic!("{kind:?}")
            };
            assert_eq!(request.route, route);
            assert_eq!(request.body["jwt"], "a.b.c");
        }
    }

    #[tokio::test]
    async fn missing_file_is_named() {
        let file = TokenFile {
            kind: TokenKind::Spiffe,
            identity_id: "i-1".into(),
            token_file: "/nonexistent/svid".into(),
        };
        let error = file.credential().await.err().unwrap().to_string();
        assert!(error.starts_with("the JWT-SVID in /nonexistent/svid: No such file"), "{error}");
        assert!(file.missing_remedy().contains("/nonexistent/svid"));
    }
}
