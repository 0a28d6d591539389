//! What breaks a rule today, by name. A list may only shrink: delete an entry with its fault, add none.

/// Imports against the layers, and circles.
pub(crate) const LAYERS: &[&str] = &[
    "daemon: circle in config: auth -> raw",
    "daemon: circle in config: hsm -> raw",
    "daemon: circle in keys::pkcs11: call_monitor -> token_handle",
    "daemon: circle in keys::pkcs11: describe -> session",
    "daemon: circle in provider::infisical: auth -> client",
    "daemon: circle in the root: grpc -> runtime",
    "daemon: grpc imports runtime",
    "daemon: grpc::admin imports runtime",
    "daemon: grpc::drill imports runtime",
    "daemon: grpc::driver imports runtime",
    "daemon: grpc::hsm imports runtime",
    "daemon: grpc::import imports runtime",
    "daemon: grpc::peer imports runtime",
    "daemon: grpc::report imports runtime",
    "daemon: grpc::workloads imports runtime",
    "driver: circle in ctl::values: render -> rendered",
];
