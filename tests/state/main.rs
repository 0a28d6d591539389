//! psid's files: registered secrets, the encrypted cache, old versions of both, and failing disks.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends at the first surprise, and is a program of its own"
)]

mod fault_injection;
mod malformed;
mod persist;
mod store;
mod vectors;
