//! token: a static access token, as Infisical's Token Auth makes it. There is no login: the token itself is what
//! each request carries.

use async_trait::async_trait;
use parking_lot::Mutex;
use psi_common::{SecretBytes, SecretString};

use super::secret::SecretSource;
use super::{LoginCredential, Method, NoCredential, jwt};
use crate::provider::{CredentialExpiry, Validity};

const TOKEN: &str = "the access token";

/// An identity with a static access token.
pub(crate) struct StaticToken {
    /// The source of the token.
    token: SecretSource,
    /// The validity of the token that was read last: to open a credential takes a TPM.
    last_read: Mutex<Option<Validity>>,
}

impl StaticToken {
    /// The identity of the token in this place.
    pub(crate) fn new(token: SecretSource) -> Self {
        Self { token, last_read: Mutex::default() }
    }
}

#[async_trait]
impl Method for StaticToken {
    fn is_local(&self) -> bool {
        true
    }

    fn identity(&self) -> String {
        format!("token of {}", self.token)
    }

    fn remedy(&self) -> String {
        format!(
            "make another token for the identity (Token Auth in Infisical), and {}",
            self.token.replace("it", "token")
        )
    }

    fn missing_remedy(&self) -> String {
        self.token.replace("a token of the identity (Token Auth in Infisical)", "token")
    }

    fn has_login(&self) -> bool {
        false
    }

    fn refusal(&self, why: &str) -> String {
        format!("Infisical refuses the access token of {} ({why}); {}", self.token, self.remedy())
    }

    fn expiry(&self) -> Option<CredentialExpiry> {
        let validity = match &self.token {
            SecretSource::File(path) => {
                let token = SecretBytes::new(std::fs::read(path).ok()?);
                jwt::validity(std::str::from_utf8(token.expose_secret()).ok()?.trim())
            }
            _ => *self.last_read.lock(),
        };
        Some(CredentialExpiry {
            identity: self.identity(),
            credential: format!("{TOKEN} of {}", self.token),
            validity: validity?,
            is_rotated: false,
            remedy: self.remedy(),
        })
    }

    async fn credential(&self) -> Result<LoginCredential, NoCredential> {
        let token = self.token.read_line(TOKEN).await.map_err(NoCredential::new)?;
        if !is_token(&token) {
            let what = "contains characters that no access token has, and was not sent";
            return Err(NoCredential::new(format!("{TOKEN} {what}")));
        }
        *self.last_read.lock() = jwt::validity(token.expose_secret());
        Ok(LoginCredential::AccessToken(token))
    }
}

/// Whether a header can hold the text, as it holds every token of Infisical's.
fn is_token(text: &SecretString) -> bool {
    text.expose_secret().bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_other_than_a_token_is_not_sent() {
        let is_token = |text: &str| is_token(&SecretString::new(text.to_owned()));
        assert!(is_token("a.b.c"));
        for text in ["a b", "t\u{f6}ken"] {
            assert!(!is_token(text), "{text:?}");
        }
    }
}
