//! Lookups that a provider answers: values, requests and trust.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod bytes;
mod confirmations;
mod dialects;
mod directories;
mod flights;
mod hidden;
mod names;
mod refreshes;
mod refusals;
mod tokens;
mod trust;
mod workloads;
