//! Leak tests: each secret is a canary, a unique text, and everything that psi prints, writes or
//! exposes is searched for it.
//!
//! Two places are not searched, because a secret belongs there: the output of a lookup, and the
//! directory of credentials, which stands for systemd's ramfs.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod canaries;
mod echo;

mod dumps;
mod hsm;
mod memory;
mod messages;
mod processes;
mod proofs;
