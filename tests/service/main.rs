//! psid as a service: what it tells its manager, how it follows a config, a restart that nobody
//! notices, and clients that behave badly.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends at the first surprise, and is a program of its own"
)]

mod abuse;
mod access;
mod activation;
mod broken_config;
mod config_in_force;
mod metrics;
mod notices;
mod reload;
mod unit;
