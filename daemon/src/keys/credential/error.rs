//! Errors of systemd-creds(1) and of its helper.

/// A credential was not opened or not sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct CredsError {
    /// What failed.
    pub kind: CredsErrorKind,
    /// What happened, with its cause.
    pub why: String,
}

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredsErrorKind {
    /// systemd-creds(1) returned an error.
    Failed,
    /// systemd-creds(1) did not complete: nothing is known of the credential.
    Incomplete,
    /// The helper could not be reached.
    NoHelper,
    /// The helper may not open or seal a credential of this name.
    Forbidden,
    /// The file with the sealed credential cannot be read.
    Unreadable,
}

impl CredsError {
    pub(super) fn new(kind: CredsErrorKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }

    pub(super) fn incomplete(why: impl Into<String>) -> Self {
        Self::new(CredsErrorKind::Incomplete, why)
    }

    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self::new(CredsErrorKind::Failed, why)
    }
}
