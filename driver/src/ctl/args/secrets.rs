//! The options of `psictl secrets`.

use clap::{Args, ValueEnum};

/// Which registrations are shown, and how.
#[derive(Args)]
pub(crate) struct SecretsOptions {
    /// Show only these, by podman name or id
    pub(crate) names: Vec<String>,
    /// Show only those of this workload
    #[arg(long, short, value_name = "NAME")]
    pub(crate) workload: Option<String>,
    /// Show only this kind
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<SecretKind>,
    /// Show only those that this user registered, by name or uid
    #[arg(long, value_name = "USER")]
    pub(crate) owner: Option<String>,
    /// Show only those that nobody has looked up since psid started
    #[arg(long)]
    pub(crate) unused: bool,
    /// The order: name, workload, owner; age with the oldest first; changed and used with the latest first
    #[arg(long, value_name = "COLUMN", default_value = "name", hide_default_value = true)]
    pub(crate) sort: SortBy,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The kind of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecretKind {
    /// A value at a provider
    Reference,
    /// A value that psid keeps
    Literal,
    /// A file that psid cannot use
    Unusable,
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// By podman name
    Name,
    /// By workload
    Workload,
    /// By owner
    Owner,
    /// The oldest value first
    Age,
    /// The latest change first
    Changed,
    /// The latest use first
    Used,
}
