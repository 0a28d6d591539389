//! The messages and services of `proto/psi/v1/psi.proto`.
//!
//! The code is generated and committed, so that a build needs neither protoc nor a build script;
//! `tests/drift.rs` fails if it does not match the proto file.

pub use prost::Message;
pub use prost::bytes::Bytes;

pub mod codec;
pub mod health;

/// Version 1 of psi's interface.
#[allow(missing_docs, unused_qualifications, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
#[rustfmt::skip]
pub mod v1 {
    include!("psi.v1.rs");
}
