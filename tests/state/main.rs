//! psid's files: registered secrets, the encrypted cache, old versions of both, and failing disks.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod fault_injection;
mod malformed;
mod persist;
mod store;
mod vectors;
