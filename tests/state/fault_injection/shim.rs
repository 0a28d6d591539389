//! `shim.c`, the fault injection in psid, and its settings.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use super::trace::Call;
use psi_harness::{Instance, Start, preload_library};

/// The fault at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// The call fails.
    Eio,
    /// The disk is full; a write stores half of its data before it fails.
    Enospc,
    /// psid ends in place of the call.
    Before,
    /// psid ends right after the call.
    After,
    /// psid ends with half of a write on the disk.
    Torn,
}

impl How {
    /// Each fault, in the table's order.
    pub(super) const ALL: [Self; 5] =
        [Self::Eio, Self::Enospc, Self::Before, Self::After, Self::Torn];

    /// Whether it can happen at this call.
    pub(super) fn befalls(self, call: &Call) -> bool {
        match self {
            Self::Torn => call.name == "write" && call.data.len() > 1,
            // Only these calls need space; psid handles other failures like EIO.
            Self::Enospc => ["mkdir", "create", "write"].contains(&&*call.name),
            _ => true,
        }
    }

    /// The kernel's message.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Eio => "Input/output error",
            Self::Enospc => "No space left on device",
            _ => "",
        }
    }

    /// Whether it ends psid.
    pub(super) fn kills(self) -> bool {
        matches!(self, Self::Before | Self::After | Self::Torn)
    }
}

/// The name for the shim and the table.
impl Display for How {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eio => "EIO",
            Self::Enospc => "ENOSPC",
            Self::Before => "before",
            Self::After => "after",
            Self::Torn => "torn",
        })
    }
}

/// A fault at the n-th change of the disk since psid's start; without one, the changes are
/// recorded.
pub(super) type Fault = Option<(usize, How)>;

/// Preloads the shim into a psid. It covers every directory of the instance except that of the
/// sockets.
pub(super) fn preload(psid: Start, instance: &Instance, fault: Fault) -> Start {
    let psid = psid
        .env("LD_PRELOAD", preload_library("tests/state/fault_injection/shim.c"))
        .env("PSI_SHIM_ROOT", instance.directory())
        .env("PSI_SHIM_EXCEPT", instance.run())
        .env("PSI_SHIM_TRACE", trace(instance));
    match fault {
        None => psid,
        Some((at, how)) => {
            psid.env("PSI_SHIM_AT", at.to_string()).env("PSI_SHIM_HOW", how.to_string())
        }
    }
}

/// The path of the trace.
pub(super) fn trace(instance: &Instance) -> PathBuf {
    instance.run().join("shim.trace")
}
