//! The options of `migrate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Args)]
pub(crate) struct MigrateOptions {
    /// The podman names of the secrets to move (default: all of the store)
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// The present store: podman's file driver, or the Python PSI
    #[arg(long, value_name = "STORE", required_unless_present = "to", conflicts_with = "to")]
    pub(crate) from: Option<OldStore>,
    /// The store that gets psi's secrets back: podman's file driver, which keeps them in plaintext
    #[arg(long, value_name = "STORE")]
    pub(crate) to: Option<NewStore>,
    /// With --to: do not ask for a confirmation
    #[arg(long, conflicts_with = "from")]
    pub(crate) yes: bool,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --from file: remove the plaintext value of every secret for which psi serves the same value
    #[arg(long, conflicts_with = "to")]
    pub(crate) remove_plaintext: bool,
    /// With --from file: check this directory for plaintext values too; needed for a directory of podman's `path=` option
    /// once its secrets are moved
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "to")]
    pub(crate) plaintext: Vec<PathBuf>,
    /// With --from psi: its state directory (default: psid's own)
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "to")]
    pub(crate) state: Option<PathBuf>,
    /// With --from psi: import the mappings and cached values of --state, or of that cache file, while psid is stopped; then
    /// start psid and run the command again without --cache
    #[arg(long, conflicts_with = "to")]
    pub(crate) cache: bool,
    /// With --cache: the key of its tpm backend, 32 bytes or sealed by systemd-creds as psi-cache-key (default: psid's
    /// own)
    #[arg(long, value_name = "FILE", requires = "cache")]
    pub(crate) key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The permanent path of psi-driver (default: the one of `psictl install`)
    #[arg(long, value_name = "PATH", conflicts_with = "to")]
    pub(crate) program: Option<PathBuf>,
}

/// A store that secrets are moved from.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OldStore {
    Psi,
    File,
}

/// A store that secrets are moved to.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NewStore {
    File,
}
