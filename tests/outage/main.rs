//! Outages of the provider: cached values are served, others fail with the cause, and no lookup
//! exceeds podman's patience.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod drill;
mod faults;
mod hangs;
mod login;
mod probes;
mod restarts;
mod scoped;
mod staleness;
