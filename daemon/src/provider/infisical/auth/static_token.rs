//! token: a static access token, as Infisical's Token Auth makes it. There is no login: the token itself is what
//! each request carries.

use async_trait::async_trait;
use psi_common::{SecretBytes, SecretString};

use super::secret::SecretSource;
use super::{LoginCredential, Method, NoCredential};
use crate::keys::credential::form_fault;

const TOKEN: &str = "the access token";

/// An identity with a static access token.
pub(crate) struct StaticToken {
    /// The source of the token.
    pub(crate) token: SecretSource,
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

    async fn credential(&self) -> Result<LoginCredential, NoCredential> {
        let token = self.token.read(TOKEN).await.map_err(NoCredential::new)?;
        let what = |what| NoCredential::new(format!("{TOKEN} {what}, and was not sent"));
        checked(&token).map(LoginCredential::AccessToken).map_err(what)
    }
}

/// The token's text, unless no server would accept it.
fn checked(token: &SecretBytes) -> Result<SecretString, &'static str> {
    let bytes = token.expose_secret();
    if let Some(fault) = form_fault(bytes) {
        return Err(fault);
    }
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err("contains characters that no access token has");
    }
    SecretString::from_utf8(bytes.to_vec()).map_err(|_| "is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_other_than_a_token_is_not_sent() {
        let check = |text: &str| {
            checked(&SecretBytes::new(text.as_bytes().to_vec())).map(SecretString::into_exposed)
        };
        assert_eq!(check("a.b.c").as_deref(), Ok("a.b.c"));
        for text in ["", "a b", "a\nb", "\"a\"", "t\u{f6}ken", "a\tb"] {
            assert!(check(text).is_err(), "{text:?}");
        }
    }
}
