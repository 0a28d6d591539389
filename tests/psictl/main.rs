//! What the programs say: exit codes, words and streams, as an operator or podman meets them.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends at the first surprise, and is a program of its own"
)]

mod check;
mod doctor;
mod frames;
mod ids;
mod install;
mod listeners;
mod login;
mod login_by_daemon;
mod psid;
mod streams;
mod transcripts;
mod usage;
mod values;
