//! psid as a service: notifications, reloads, restarts and misbehaving clients.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends at the first surprise, and is a program of its own"
)]

mod abuse;
mod access;
mod activation;
mod metrics;
mod notices;
mod reload;
