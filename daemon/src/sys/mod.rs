//! The operating system: files, limits, memory, the service manager and the log.

pub(crate) mod files;
pub(crate) mod hardening;
pub(crate) mod logging;
pub(crate) mod malloc;
pub(crate) mod notify;
mod reach;
pub(crate) mod tasks;
