//! The refused logins of one identity, which are remembered across restarts.

use std::time::Duration;

use psi_common::SecretString;
use zeroize::Zeroizing;

use crate::storage::failed_logins::{FailedLogin, FailedLogins, RetryRule};

/// The wait after a refusal that could not be recorded.
const UNRECORDED_WAIT: Duration = Duration::from_secs(30);

/// The record of an identity's refused logins.
pub(super) struct RefusalMemory {
    failed_logins: FailedLogins,
    /// The identity in the record: the server, the method and its id.
    subject: String,
    /// Whether another credential is tried at once. A token that is made anew for each login is none.
    by_credential: bool,
}

impl RefusalMemory {
    pub(super) fn new(failed_logins: FailedLogins, subject: String, by_credential: bool) -> Self {
        Self { failed_logins, subject, by_credential }
    }

    /// The identity's name, equal for equal identities.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// The remembered refusal of this credential.
    pub(super) async fn look_up(&self, credential: &SecretString) -> Option<FailedLogin> {
        let (failed_logins, subject) = (self.failed_logins.clone(), self.subject.clone());
        let credential = self.hashed(credential);
        blocking(move || failed_logins.look_up(&subject, &credential)).await.flatten()
    }

    /// Remembers a refusal.
    pub(super) async fn record(
        &self,
        credential: &SecretString,
        why: String,
        retry: RetryRule,
    ) -> FailedLogin {
        let (failed_logins, subject) = (self.failed_logins.clone(), self.subject.clone());
        let (credential, message) = (self.hashed(credential), why.clone());
        let remembered =
            blocking(move || failed_logins.record(&subject, &credential, &message, retry)).await;
        let any_secret = matches!(retry, RetryRule::After(_));
        let wait_left = Some(UNRECORDED_WAIT);
        remembered.unwrap_or(FailedLogin { why, wait_left, count: 1, any_secret })
    }

    /// Forgets the refusals, after a success.
    pub(super) async fn clear(&self) {
        let (failed_logins, subject) = (self.failed_logins.clone(), self.subject.clone());
        blocking(move || failed_logins.clear(&subject)).await;
    }

    /// Forgets the refusals, some time soon.
    pub(super) fn clear_later(&self) {
        let (failed_logins, subject) = (self.failed_logins.clone(), self.subject.clone());
        tokio::task::spawn_blocking(move || failed_logins.clear(&subject));
    }

    /// The bytes that the record hashes.
    fn hashed(&self, credential: &SecretString) -> Zeroizing<Vec<u8>> {
        let bytes = if self.by_credential { credential.expose_secret() } else { "" };
        Zeroizing::new(bytes.as_bytes().to_vec())
    }
}

/// Runs work on the record, which is a file.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
