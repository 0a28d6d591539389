//! Before the first secret: no core dump, no debugger, no swap, no file that others can read.

use rustix::fs::Mode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{CapabilitySet, capabilities};

/// Hardens this process; each sentence is a protection that the kernel refused, with its remedy.
pub(crate) fn harden() -> Vec<String> {
    umask(Mode::from_raw_mode(0o077));
    let mut refused = Vec::new();
    // Connections that say nothing must not use up what callers need.
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    let no_core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() || no_core.is_err() {
        refused.push("core dumps cannot be turned off; set LimitCORE=0 in psid.service".into());
    }
    if !lock_memory() {
        refused.push(
            "memory is not locked, so secrets may reach swap; set LimitMEMLOCK=infinity in psid.service, or \
             encrypt the swap"
                .into(),
        );
    }
    refused
}

/// Locks all memory, present and to come. Under a finite limit that would not fail now but at some
/// allocation later, and end the daemon: so only where there is no limit.
fn lock_memory() -> bool {
    let unlimited = getrlimit(Resource::Memlock).current.is_none()
        || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    // On fault: locking must not make every thread's whole stack resident.
    unlimited
        && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok()
}
