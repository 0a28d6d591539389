//! psid as a service: notifications, reloads, restarts and misbehaving clients.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod abuse;
mod access;
mod activation;
mod broken_config;
mod config_in_force;
mod isolation;
mod limits;
mod metrics;
mod notices;
mod reload;
mod rpc_table;
mod trail;
mod trail_day;
mod unit;
mod workload_users;
