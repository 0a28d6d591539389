//! Exit statuses, those of sysexits(3) where it has one.

use std::process::ExitCode;

/// The exit status of a psi program. Podman distinguishes only zero and others; the rest is for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Ok = 0,
    /// Success, but with drift, findings, a degradation, or something left out.
    Drift = 1,
    /// The command line is wrong.
    Usage = 2,
    /// `SECRET_ID`, the value or the config is malformed, or names something that the config lacks.
    BadInput = 65,
    /// No such secret.
    NoSuchSecret = 66,
    /// The daemon does not run, or does not answer.
    NoDaemon = 69,
    /// A local read or write failed.
    Io = 74,
    /// The provider is unreachable and nothing may be served, or nothing can be stored: try again later.
    TryLater = 75,
    /// The daemon's answer violates the protocol.
    Protocol = 76,
    /// Not allowed.
    NotAllowed = 77,
    /// `exec`: the command cannot be run; the shells' status.
    NotExecutable = 126,
    /// `exec`: there is no such command; the shells' status.
    NoSuchCommand = 127,
}

impl Exit {
    /// The status of a psi program that ended with this code.
    pub fn from_code(code: i32) -> Option<Self> {
        const ALL: [Exit; 12] = [
            Exit::Ok,
            Exit::Drift,
            Exit::Usage,
            Exit::BadInput,
            Exit::NoSuchSecret,
            Exit::NoDaemon,
            Exit::Io,
            Exit::TryLater,
            Exit::Protocol,
            Exit::NotAllowed,
            Exit::NotExecutable,
            Exit::NoSuchCommand,
        ];
        ALL.into_iter().find(|exit| i32::from(*exit as u8) == code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
