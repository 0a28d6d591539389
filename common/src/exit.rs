//! Exit codes: sysexits(3) where it has a word for it.

use std::process::ExitCode;

/// How a psi program ends. Podman reads only zero or not; scripts and people read the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Done, and what was looked at is not as it should be: drift, or findings.
    Drift = 1,
    /// The command line is wrong.
    Usage = 2,
    /// `SECRET_ID`, the value or the config is malformed, or asks for what the config has not.
    BadInput = 65,
    /// No such secret.
    NoSuchSecret = 66,
    /// The daemon is not there, or does not answer.
    NoDaemon = 69,
    /// A local read or write failed.
    Io = 74,
    /// The provider is out and nothing may be served, or nothing can be stored: try again later.
    TryLater = 75,
    /// The daemon answered out of protocol.
    Protocol = 76,
    /// Not allowed.
    NotAllowed = 77,
    /// `exec`: the command cannot be run, as shells have it.
    NotExecutable = 126,
    /// `exec`: there is no such command, as shells have it.
    NoSuchCommand = 127,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
