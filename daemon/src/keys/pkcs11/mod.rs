//! A PKCS#11 token, for the key backend and the provider alike: one thread owns the one module instance
//! and the one session, everybody else has a [`Token`], which waits for it no longer than it may.
//!
//! A module's calls block, for half a minute on real tokens, and may hang; two sessions and two logins of
//! one process disturb each other. So nothing here is called but on that thread, and nobody waits for it
//! without a deadline.

mod call_monitor;
mod describe;
mod error;
mod keys;
mod library;
mod pin;
mod session;
mod token_handle;
mod token_worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretBytes;

use crate::crypto::rsa::PublicKey;
use crate::model::reach::Reach;
use crate::storage::failed_logins::FailedLogins;

pub use call_monitor::TokenState;
pub(crate) use describe::{KeyDescription, PinStatus, TokenDescription, Unwrapping};
pub use error::TokenError;
pub(crate) use error::TokenErrorKind;
pub use pin::PinSource;

use session::Connection;
use token_handle::TokenHandle;
use token_worker::Access;

/// Opening a session takes 20 to 30 s on real tokens, and there may be a queue.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the token is, which of its keys is meant, and where its PIN is.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// The module, an absolute path.
    pub module: PathBuf,
    /// Which of its tokens.
    pub token: TokenChoice,
    /// Which RSA key of the token.
    pub key: KeyChoice,
    /// Where the user PIN is.
    pub pin: PinSource,
    /// Which PINs were refused.
    pub failed_logins: FailedLogins,
    /// Whether a refused PIN gets one more try.
    pub retry: bool,
}

/// A token of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChoice {
    /// By its label.
    Label(String),
    /// By the id of the slot that it is in.
    Slot(u64),
}

/// A key of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// By its label.
    Label(String),
    /// By its `CKA_ID`.
    Id(Vec<u8>),
}

/// A handle on the token. Clones share its thread, which is there from the first call on, and is made anew
/// should it die.
#[derive(Clone)]
pub struct Token {
    desk: Arc<TokenHandle>,
    patience: Duration,
}

impl Token {
    /// A token that is not touched before the first call.
    pub fn new(config: TokenConfig) -> Self {
        Self { desk: Arc::new(TokenHandle::new(config)), patience: PATIENCE }
    }

    /// The same token, for a caller who waits so long for an answer and then gets
    /// [`TokenErrorKind::Busy`]. What was begun goes on: a session that was opened serves the next caller.
    pub fn within(&self, patience: Duration) -> Self {
        Self { desk: Arc::clone(&self.desk), patience }
    }

    /// Follows a config that was read again. A refused PIN is not tried again for that.
    pub fn follow(&self, config: TokenConfig) {
        self.desk.renew(config);
    }

    /// Logs out and lets go of the module, for the end of the process. One that hangs is left to itself.
    pub async fn close(&self) {
        if !self.desk.close(self.patience).await {
            tracing::warn!("the token was not logged out: its module does not return");
        }
    }

    /// How the token fares, from what is known: nothing is asked of it.
    pub fn state(&self) -> TokenState {
        self.desk.board.state()
    }

    /// Whether it would open something now, from what is known: nothing is asked of it.
    pub fn reach(&self) -> Reach {
        self.desk.board.reach()
    }

    /// Loads the module and no more, for who looks for the broken link; what it says that it is.
    pub async fn load(&self) -> Result<String, TokenError> {
        self.desk.load(self.patience).await
    }

    /// The key's public half, as the token has it.
    pub async fn public_key(&self) -> Result<PublicKey, TokenError> {
        self.desk.call(self.patience, Access::User, Connection::public_key).await
    }

    /// Undoes RSA-OAEP with SHA-256 and MGF1-SHA-256, without a label.
    pub async fn unwrap_key(&self, wrapped: &[u8]) -> Result<SecretBytes, TokenError> {
        let wrapped = wrapped.to_vec();
        let job = move |connection: &mut Connection| connection.unwrap_key(&wrapped);
        self.desk.call(self.patience, Access::User, job).await
    }

    /// Signs as `CKM_SHA256_RSA_PKCS` does: RSASSA-PKCS1-v1_5 with SHA-256.
    pub async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let message = message.to_vec();
        let job = move |connection: &mut Connection| connection.sign(&message);
        self.desk.call(self.patience, Access::User, job).await
    }

    /// What there is: the token as anybody sees it, and the key as a login shows it.
    pub async fn describe(&self) -> Result<TokenDescription, TokenError> {
        let token = self.desk.call(self.patience, Access::Public, Connection::describe).await?;
        let key = self.desk.call(self.patience, Access::User, Connection::describe_key).await;
        Ok(TokenDescription { key, ..token })
    }
}
