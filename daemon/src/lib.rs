//! psid, the daemon. Each directory is a layer and imports only the layers below it:
//!
//! ```text
//! main → cli → runtime → grpc → { refresh, workloads, import, legacy } → lookup
//!      → { config, registry } → provider → keys → storage → cache → { crypto, model } → sys
//! ```
//!
//! A lookup passes `grpc` (messages and authorization), `lookup` (the service), `registry` (the resolved
//! reference), `cache`, and on a miss `provider`.

pub mod cli;

pub mod runtime;

pub mod grpc;

pub mod import;
pub mod legacy;
pub mod refresh;
pub mod workloads;

pub mod lookup;

pub mod config;
pub mod registry;

pub mod provider;

pub mod keys;

pub mod storage;

pub mod cache;

pub mod crypto;
pub mod model;

pub mod sys;
