//! What breaks a rule today, by name. A list may only shrink: delete an entry with its fault, add none.

/// Imports against the layers, and circles.
pub(crate) const LAYERS: &[&str] = &[];

/// Files of more than 400 lines.
pub(crate) const LONG_FILES: &[&str] = &[
    "daemon::cli::doctor::containers_conf",
    "daemon::lookup",
    "daemon::provider::circuit_breaker",
    "daemon::provider::infisical",
    "daemon::provider::infisical::response",
    "daemon::registry",
    "daemon::cache",
    "driver::args",
    "driver::ctl::args",
    "driver::client::checked",
];

/// Functions of more than 60 lines.
pub(crate) const LONG_FUNCTIONS: &[&str] = &[
    "daemon::cli::run",
    "daemon::provider::infisical::response::classify",
    "driver::ctl::status::report::as_json",
];

/// Functions of more than five parameters.
pub(crate) const WIDE_FUNCTIONS: &[&str] = &[
    "daemon::refresh::targets::PullTarget::new",
    "daemon::workloads::plan_one",
    "daemon::workloads::planned",
];

/// Names of types that two modules of a crate have.
pub(crate) const TYPE_NAMES: &[&str] = &[
    "daemon: Access",
    "daemon: Answer",
    "daemon: Connection",
    "daemon: Counts",
    "daemon: Failed",
    "daemon: Fault",
    "daemon: Import",
    "daemon: Kind",
    "daemon: Listing",
    "daemon: Loaded",
    "daemon: Options",
    "daemon: Order",
    "daemon: Outcome",
    "daemon: Planned",
    "daemon: Report",
    "daemon: Step",
    "daemon: Token",
    "daemon: Values",
    "daemon: Version",
    "driver: Found",
    "driver: Inventory",
];

/// Words that a module should be free of.
pub(crate) const WORDS: &[&str] = &["daemon::cache::shared has `tokio`"];

/// Imports that a module's own list does not allow.
pub(crate) const IMPORTS: &[&str] = &[];
