//! Protections that start before the first secret is read: no core dump, no debugger, no swap, no file that
//! other users can read.

use std::fs;

use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

/// The bit of `CAP_IPC_LOCK` in a capability set (linux/capability.h).
const CAP_IPC_LOCK: u32 = 14;

/// Hardens this process. Returns a message for each protection that the kernel refused, with its remedy.
pub(crate) fn harden() -> Vec<String> {
    umask(Mode::from_bits_truncate(0o077));
    let mut refused = Vec::new();
    // Idle connections must not use up the descriptors that clients need.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let no_core = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if set_dumpable(false).is_err() || no_core.is_err() {
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

/// Locks all present and future memory, but only if there is no limit: under a limit, a later allocation would
/// fail and end the daemon.
fn lock_memory() -> bool {
    let is_unlimited = getrlimit(Resource::RLIMIT_MEMLOCK)
        .is_ok_and(|(soft, _)| soft == RLIM_INFINITY)
        || may_lock_memory();
    // On fault, so that the whole stack of each thread does not become resident. nix has no name for this flag.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    is_unlimited
        && mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault).is_ok()
}

/// Whether this process has `CAP_IPC_LOCK`. nix has no call for capabilities; the kernel shows them in /proc.
fn may_lock_memory() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_capabilities(&status).is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read_from_the_status_of_a_process() {
        let status =
            "CapPrm:\t0000000000000000\nCapEff:\t0000000000004000\nCapBnd:\t000001ffffffffff\n";
        assert_eq!(effective_capabilities(status), Some(1 << CAP_IPC_LOCK));
        assert_eq!(effective_capabilities("CapEff:\tx\n"), None);
        assert_eq!(effective_capabilities(""), None);
    }
}
