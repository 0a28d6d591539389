//! The commands that bring secrets here: out of another store into psi, and into Infisical.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Args)]
pub(crate) struct MigrateOptions {
    /// Only these secrets, by their podman names (default: all of the store)
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// The store that has them now: podman's file driver, or the Python PSI
    #[arg(long, value_name = "STORE")]
    pub(crate) from: OldStore,
    /// Tell what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With file: remove the values in clear of every secret that psi serves the same by now
    #[arg(long)]
    pub(crate) remove_plaintext: bool,
    /// With psi: the folder of its mappings, for those that psid has not taken over (default: psid's own)
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Where psi-driver stays for good (default: where `psi-driver install` said)
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
}

/// Who keeps a secret that is to be psi's.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OldStore {
    Psi,
    File,
}
