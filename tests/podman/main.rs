//! Tests with a real podman and real containers.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod containers;
mod containers_conf;
mod from_python;
mod gc;
mod inventory;
mod kube;
mod lifecycle;
mod literal;
mod locks;
mod migrate;
mod running;
mod sealed;
mod setup;
mod users;
