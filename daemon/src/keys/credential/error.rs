//! Why a credential did not open or was not sealed.

use std::fmt;

/// Why systemd-creds(1) did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredsError {
    /// What it says of the credential.
    pub kind: CredsErrorKind,
    /// What happened, with its cause.
    pub why: String,
}

/// What a failure says of the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredsErrorKind {
    /// systemd-creds(1) ran to its end and failed.
    Failed,
    /// It did not run to its end, or nobody reached it: nothing is known of the credential.
    NotDone,
    /// The helper was not reached.
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

    pub(super) fn not_done(why: impl Into<String>) -> Self {
        Self::new(CredsErrorKind::NotDone, why)
    }

    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self::new(CredsErrorKind::Failed, why)
    }
}

impl fmt::Display for CredsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for CredsError {}
