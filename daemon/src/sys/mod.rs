//! The operating system: files, descriptors, clocks, limits, memory, tasks, the process of a peer, the service
//! manager and the log.

mod cgroup_id;
pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod files;
pub(crate) mod hardening;
pub(crate) mod jitter;
pub(crate) mod logging;
pub(crate) mod malloc;
pub(crate) mod notify;
pub(crate) mod peer_process;
mod pinned_parent;
pub(crate) mod tasks;
mod unit_of_cgroup;
pub(crate) mod users;
