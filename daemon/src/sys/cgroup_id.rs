//! The id of a process' control group, by its pidfd.
//!
//! One system call on a kernel from 6.13 on. To open `/proc/PID/cgroup` of a new process costs far more: the kernel makes
//! an inode for the process, and removes it when the process ends.

use std::os::fd::{AsRawFd, OwnedFd};

/// The flag of `cgroup` in `mask`: `PIDFD_INFO_CGROUPID`.
const HAS_CGROUP: u64 = 1 << 2;

/// `struct pidfd_info` of `linux/pidfd.h`, as its first version has it.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    /// In: what is asked for. Out: what was found.
    mask: u64,
    cgroup: u64,
    /// Pids, uids, gids and the exit status.
    _others: [u32; 12],
}

/// The id of the process' group in the unified hierarchy. It is never another group's until the next boot. None if the
/// process has ended, or the kernel does not say.
#[expect(unsafe_code, reason = "nix has no PIDFD_GET_INFO; its macro makes an unsafe function")]
pub(super) fn cgroup_id(pidfd: &OwnedFd) -> Option<u64> {
    nix::ioctl_readwrite!(
        /// `PIDFD_GET_INFO`.
        pidfd_get_info, 0xff, 11, PidfdInfo
    );
    let mut info = PidfdInfo { mask: HAS_CGROUP, ..PidfdInfo::default() };
    // SAFETY: the kernel writes at most the size that is part of the request's number: that of the struct.
    unsafe { pidfd_get_info(pidfd.as_raw_fd(), &raw mut info) }.ok()?;
    (info.mask & HAS_CGROUP != 0).then_some(info.cgroup)
}
