//! The calls that need more of the daemon than `lookup::Service`. `runtime` implements them, so that `grpc` does not
//! depend on it.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use psi_common::{BackendTag, Problem, SecretBytes};
use tokio::sync::watch;

use crate::crypto::recovery_key::RecoveryKey;
use crate::keys::SealOptions;
use crate::keys::pkcs11::{TokenDescription, TokenError, TokenState};
use crate::lookup::{OutageReport, SelfTestContext, Service, ServiceError};
use crate::model::clock::Now;
use crate::refresh::{Progress, RefreshScope, Summary, Totals};
use crate::trail::Trail;

/// The running daemon.
#[async_trait]
pub trait Control: Send + Sync {
    /// Lookups and registrations.
    fn service(&self) -> &Arc<Service>;

    /// The record of uses, refusals and changes.
    fn trail(&self) -> &Arc<Trail>;

    /// Starts a refresh, or joins the running one.
    fn start_refresh(&self, scope: RefreshScope, now: Now) -> watch::Receiver<Progress>;

    /// The last refresh, and the totals of all pulls.
    fn refreshes(&self) -> (Option<Summary>, Totals);

    /// The state of the cache file.
    fn cache_file(&self) -> CacheFileReport;

    /// Writes pending changes to the cache file now.
    async fn write_cache(&self) -> Result<(), Problem>;

    /// Reads the cache file back and compares it with RAM; returns the message for the admin.
    async fn verify_cache(&self) -> Result<String, Problem>;

    /// The reasons why psid is degraded.
    fn degradations(&self) -> Vec<Degradation>;

    /// The secrets that would not resolve in an outage of the providers.
    async fn outage_report(&self, now: Now) -> OutageReport;

    /// The state that decides, beside the cache, whether a secret would resolve.
    fn self_test_context(&self) -> SelfTestContext;

    /// Makes a new data key and encrypts everything with it.
    async fn rekey(&self, seal: Option<SealOptions>) -> Result<(), Problem>;

    /// Opens the data key with the recovery key and seals it to the backend again.
    async fn recover_key(
        &self,
        recovery: RecoveryKey,
        seal: Option<SealOptions>,
    ) -> Result<(), Problem>;

    /// Makes a recovery key, which replaces an earlier one.
    async fn make_recovery_key(&self) -> Result<RecoveryKey, Problem>;

    /// Encrypts a secret to the token's key and returns its reference.
    async fn seal(&self, secret: &SecretBytes) -> Result<String, ServiceError>;

    /// The token and its key.
    async fn token(&self) -> Result<TokenReport, ServiceError>;
}

/// A reason why psid is degraded.
pub struct Degradation {
    /// An identifier of the cause that does not change.
    pub cause: &'static str,
    /// What happened, with its cause; the remedy.
    pub why: String,
}

/// The state of the cache file.
pub struct CacheFileReport {
    /// The key backend, if there is one.
    pub backend: Option<BackendTag>,
    /// What its key is bound to, if that is known.
    pub key_bound_to: Option<String>,
    /// The path, whether the file exists or not.
    pub path: PathBuf,
    /// The generation on disk.
    pub generation: u64,
    /// Writes that failed since the start.
    pub write_errors: u64,
    /// Whether a recovery key exists.
    pub has_recovery_key: bool,
}

/// The state of the token.
pub struct TokenReport {
    /// Whether the token answers.
    pub state: TokenState,
    /// The token's description of itself and of the key.
    pub described: Result<TokenDescription, TokenError>,
}
