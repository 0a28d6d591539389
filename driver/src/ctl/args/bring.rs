//! The commands that bring secrets here: out of another store into psi, and into Infisical.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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
    /// With file: look for values in clear in this folder too; needed for one that podman's `path=` option named,
    /// once its secrets are psi's
    #[arg(long, value_name = "FOLDER")]
    pub(crate) plaintext: Vec<PathBuf>,
    /// With psi: the directory of its state (default: psid's own)
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// With psi: take over the mappings and cached values in --state, or in that cache file, while psid is
    /// stopped; then start psid and run this again without it
    #[arg(long)]
    pub(crate) cache: bool,
    /// With --cache: the key of its tpm backend, 32 bytes or sealed by systemd-creds as psi-cache-key (default:
    /// our own)
    #[arg(long, value_name = "FILE", requires = "cache")]
    pub(crate) key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Where psi-driver stays for good (default: where `psictl install` said)
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
}

/// Who keeps a secret that is to be psi's.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OldStore {
    Psi,
    File,
}

/// Where secrets are imported from.
#[derive(Subcommand)]
pub(crate) enum ImportCommand {
    /// KEY=VALUE lines, read by podman's own rules: what podman gives a container is what is imported
    ///
    /// A value is all that follows the first =, with any quotes. A line without = takes its value from the
    /// environment of podman, and is left out here.
    EnvFile {
        /// Files; - for stdin. Of two with one key, the later one's counts
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        options: ImportOptions,
    },
    /// Podman secrets, of whatever driver but pass
    PodmanSecret {
        /// Podman names, each with =KEY for another key than the name
        #[arg(value_name = "NAME[=KEY]", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        options: ImportOptions,
    },
    /// What quadlet units give their containers: Environment=, EnvironmentFile= and Secret= of [Container]
    Quadlet {
        /// .container files and drop-ins
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        options: ImportOptions,
    },
}

#[derive(Args)]
pub(crate) struct ImportOptions {
    /// The project's name in the config
    #[arg(long, value_name = "NAME")]
    pub(crate) project: String,
    /// The environment's slug (default: the project's in the config)
    #[arg(long, value_name = "SLUG")]
    pub(crate) environment: Option<String>,
    /// The folder
    #[arg(long, value_name = "PATH")]
    pub(crate) path: String,
    /// Make the folder, and those above it, where they are missing
    #[arg(long)]
    pub(crate) make_folder: bool,
    /// What to do when a key is there with another value: fail writes nothing at all
    #[arg(long, value_name = "HOW", default_value = "fail")]
    pub(crate) conflict: OnConflict,
    /// Tell what would be done, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do when a key is there with another value.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnConflict {
    Fail,
    Skip,
    Overwrite,
}

impl ImportCommand {
    /// As it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::EnvFile { .. } => "env-file",
            Self::PodmanSecret { .. } => "podman-secret",
            Self::Quadlet { .. } => "quadlet",
        }
    }

    /// What all have.
    pub(crate) fn options(&self) -> &ImportOptions {
        match self {
            Self::EnvFile { options, .. }
            | Self::PodmanSecret { options, .. }
            | Self::Quadlet { options, .. } => options,
        }
    }
}
