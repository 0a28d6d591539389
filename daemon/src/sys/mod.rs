//! The operating system: files, limits, memory, the service manager and the log.

pub mod files;
pub mod hardening;
pub mod logging;
pub mod malloc;
pub mod notify;
mod place;
