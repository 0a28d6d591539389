//! Exit statuses, messages and streams of the programs.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod changes;
mod check;
mod child;
mod completion;
mod doctor;
mod frames;
mod ids;
mod install;
mod leftovers;
mod listeners;
mod login;
mod login_by_daemon;
mod psid;
mod secrets;
mod streams;
mod transcripts;
mod units;
mod usage;
mod values;
