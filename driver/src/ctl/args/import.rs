//! The commands of `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The sources of an import.
#[derive(Subcommand)]
pub(crate) enum ImportCommand {
    /// Import KEY=VALUE lines by podman's rules, so that a container would get the same values
    ///
    /// A value is everything after the first =, including quotes. A line without =, which podman would take from its own
    /// environment, is an error.
    EnvFile {
        /// Files, or - for stdin; of two with the same key, the later one wins
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        options: ImportOptions,
    },
    /// Import podman secrets of any driver but pass
    PodmanSecret {
        /// Podman names; =KEY sets a key that differs from the name
        #[arg(value_name = "NAME[=KEY]", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        options: ImportOptions,
    },
    /// Import the variables of quadlet units: Environment=, EnvironmentFile= and Secret= of [Container]
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
    /// The directory (Infisical's folder)
    #[arg(long, value_name = "PATH")]
    pub(crate) path: String,
    /// Create the directory and its parents if they are missing
    #[arg(long)]
    pub(crate) make_folder: bool,
    /// What to do if a key exists with another value; fail writes nothing at all
    #[arg(long, value_name = "HOW", default_value = "fail")]
    pub(crate) conflict: OnConflict,
    /// Print what would be done, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do if a key exists with another value.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnConflict {
    Fail,
    Skip,
    Overwrite,
}

impl ImportCommand {
    /// The subcommand's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::EnvFile { .. } => "env-file",
            Self::PodmanSecret { .. } => "podman-secret",
            Self::Quadlet { .. } => "quadlet",
        }
    }

    /// The options of all sources.
    pub(crate) fn options(&self) -> &ImportOptions {
        match self {
            Self::EnvFile { options, .. }
            | Self::PodmanSecret { options, .. }
            | Self::Quadlet { options, .. } => options,
        }
    }
}
