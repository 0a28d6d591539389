//! psid, the daemon. Each directory is a layer and imports only the layers below it:
//!
//! ```text
//! main → cli → runtime → grpc → { refresh, workloads, import, legacy, trail } → lookup
//!      → { config, registry } → provider → keys → storage → cache → { crypto, model } → sys
//! ```
//!
//! A lookup passes `grpc` (messages and authorization), `lookup` (the service), `registry` (the resolved
//! reference), `cache`, and on a miss `provider`.

#![cfg_attr(
    not(feature = "testing"),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "`testing` exports them; clippy runs with it"
    )
)]

pub mod cli;

mod runtime;

mod grpc;

mod import;
mod legacy;
mod refresh;
mod trail;
mod workloads;

mod lookup;

mod config;
mod registry;

mod provider;

mod keys;

mod storage;

mod cache;

mod crypto;
mod model;

mod sys;

#[cfg(feature = "testing")]
pub mod testing;
