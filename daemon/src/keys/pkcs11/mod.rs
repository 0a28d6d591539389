//! A PKCS#11 token, shared by the key backend and the provider. One thread owns the module instance and its one
//! session; all other code has a [`Token`], a handle whose calls have a deadline.
//!
//! The calls of a module block, for half a minute on real tokens, and may hang; two sessions or two logins of
//! one process disturb each other. So only that thread calls the module.

mod call_monitor;
mod der;
mod describe;
mod error;
mod keys;
mod library;
mod pin;
mod session;
mod signing;
mod token_handle;
mod token_worker;
mod types;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretBytes;

use crate::crypto::rsa::PublicKey;
use crate::model::reach::Reach;
use crate::storage::failed_logins::FailedLogins;

pub use call_monitor::TokenState;
pub use error::TokenError;
pub(crate) use error::TokenErrorKind;
pub use pin::PinSource;
pub(crate) use signing::{SigningAlgorithm, SigningScheme};
pub(crate) use types::{KeyDescription, PinStatus, TokenDescription, Unwrapping};

use session::Session;
use token_handle::TokenHandle;
use token_worker::SessionAccess;

/// Real tokens take 20 to 30 s to open a session, and other requests may be queued before this one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The token, its key and the source of its PIN, as the config names them.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// The absolute path of the module.
    pub module: PathBuf,
    /// The token of that module.
    pub token: TokenChoice,
    /// The RSA key of the token.
    pub key: KeyChoice,
    /// The source of the user PIN.
    pub pin: PinSource,
    /// The PINs that the token refused.
    pub failed_logins: FailedLogins,
    /// Whether a refused PIN gets one more try.
    pub retry: bool,
}

/// How the config names a token of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChoice {
    /// By its label.
    Label(String),
    /// By the id of the slot that it is in.
    Slot(u64),
}

/// How the config names a key of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// By its label.
    Label(String),
    /// By its `CKA_ID`.
    Id(Vec<u8>),
}

/// A handle of the token. Clones share its thread, which starts with the first call and is started again if it
/// ends.
#[derive(Clone)]
pub struct Token {
    handle: Arc<TokenHandle>,
    timeout: Duration,
}

impl Token {
    /// A handle; the token is not accessed before the first call.
    pub fn new(config: TokenConfig) -> Self {
        Self { handle: Arc::new(TokenHandle::new(config)), timeout: DEFAULT_TIMEOUT }
    }

    /// A handle of the same token whose calls fail with [`TokenErrorKind::Busy`] after `timeout`. The operation
    /// itself continues: a session that it opens serves the next call.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { handle: Arc::clone(&self.handle), timeout }
    }

    /// Applies a config that was read again. A refused PIN is not retried for that reason.
    pub fn follow(&self, config: TokenConfig) {
        self.handle.update(config);
    }

    /// Logs out and finalises the module, before the process ends. A module that hangs is abandoned.
    pub async fn close(&self) {
        if !self.handle.close(self.timeout).await {
            tracing::warn!("the token was not logged out: its module does not return");
        }
    }

    /// The state after the last request; does not access the token.
    pub fn state(&self) -> TokenState {
        self.handle.monitor.state()
    }

    /// Whether the token could decrypt now, by the last request; does not access the token.
    pub fn reach(&self) -> Reach {
        self.handle.monitor.reach()
    }

    /// Loads the module only, for diagnosis, and returns its own description.
    pub async fn load(&self) -> Result<String, TokenError> {
        self.handle.load(self.timeout).await
    }

    /// The public key, read from the token.
    pub async fn public_key(&self) -> Result<PublicKey, TokenError> {
        self.handle.call(self.timeout, SessionAccess::User, Session::public_key).await
    }

    /// Decrypts with RSA-OAEP, SHA-256 and MGF1-SHA-256, without a label.
    pub async fn unwrap_key(&self, wrapped: &[u8]) -> Result<SecretBytes, TokenError> {
        let wrapped = wrapped.to_vec();
        let job = move |session: &mut Session| session.unwrap_key(&wrapped);
        self.handle.call(self.timeout, SessionAccess::User, job).await
    }

    /// Signs with `CKM_SHA256_RSA_PKCS`: RSASSA-PKCS1-v1_5 with SHA-256.
    pub async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let message = message.to_vec();
        let job = move |session: &mut Session| session.sign(&message);
        self.handle.call(self.timeout, SessionAccess::User, job).await
    }

    /// Describes the token, and its key if a login succeeds.
    pub async fn describe(&self) -> Result<TokenDescription, TokenError> {
        let token =
            self.handle.call(self.timeout, SessionAccess::Public, Session::describe).await?;
        let key = self.handle.call(self.timeout, SessionAccess::User, Session::describe_key).await;
        Ok(TokenDescription { key, ..token })
    }
}
