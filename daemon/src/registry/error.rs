//! The errors of the registry, with what the admin can do.

use std::io;
use std::sync::Arc;

use psi_common::SecretId;

/// An error of the registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The id is registered for another secret.
    #[error("the id is registered already, for something else; podman never reuses an id")]
    Exists,
    /// The id belongs to another user.
    #[error("the id is another user's; podman never reuses an id, so create the secret again")]
    Foreign,
    /// A user has as much as one user may have.
    #[error("{0}; remove secrets that are not needed any more with `podman secret rm`")]
    Quota(String),
    /// A literal cannot be encrypted: there is no key backend.
    #[error(
        "there is no key backend to seal a literal with; `psictl init` sets a new host up, or set backend in [cache] \
         and run `psictl cache init`"
    )]
    NoBackend,
    /// A literal cannot be encrypted: the key is not unlocked.
    #[error("there is no key to seal a literal with; `psictl cache status` says why")]
    NoKey,
    /// The id is not registered.
    #[error("psid has no such secret registered; see `podman secret ls`, or create it again")]
    NotRegistered,
    /// The id was deleted within the last ten minutes.
    #[error("it was deleted less than ten minutes ago; `psictl restore {0}` brings it back")]
    Deleted(SecretId),
    /// There is nothing to restore.
    #[error("nothing was deleted under this id in the last ten minutes; see `psictl restore`")]
    NothingDeleted,
    /// The deleted file is invalid: why, and what to do.
    #[error("{0}")]
    Invalid(Arc<str>),
    /// A registration cannot be read at present: why, and what to do.
    #[error("what is registered cannot be read, which is tried again: {0}")]
    Unreadable(Arc<str>),
    /// Nothing could be stored in place of the id that is to be deleted: why.
    #[error(
        "{0} is kept, for nothing could be stored in its place now: {1}; `psictl delete {0} --force` deletes it \
         all the same"
    )]
    Irreplaceable(SecretId, String),
    /// A delete was refused within the last two seconds.
    #[error(
        "psid refused to delete a secret a moment ago, and podman would keep two of one name; run it again"
    )]
    Paused,
    /// An I/O error.
    #[error("the registration cannot be changed: {0}; check the disk of psid's state directory")]
    Storage(String),
}

impl From<getrandom::Error> for RegistryError {
    fn from(error: getrandom::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<io::Error> for RegistryError {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.to_string())
    }
}
