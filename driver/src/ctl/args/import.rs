//! The commands of `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The sources of an import.
#[derive(Subcommand)]
pub(crate) enum ImportCommand {
    /// Import the variables of env-files, with the values that the program of a dialect gives them
    ///
    /// Each dialect reads quotes, comments, escapes and $NAME as its program does: `docker compose`, `podman run
    /// --env-file`, or those that read .env files. A line that is no assignment refuses the file, by its number; its text
    /// is never shown. So does a value that depends on something outside of the file: no dialect reads psictl's own
    /// environment.
    EnvFile {
        /// Files, or - for stdin; of two with the same key, the later one wins
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// The dialect
        #[arg(long, value_name = "DIALECT", default_value = "compose")]
        format: EnvFileFormat,
        #[command(flatten)]
        options: ImportOptions,
    },
    /// Import podman secrets of any driver but pass
    PodmanSecret {
        /// Podman names; =KEY sets a key that differs from the name
        #[arg(value_name = "NAME[=KEY]", required_unless_present = "all")]
        names: Vec<String>,
        /// Import every podman secret under its name, but the references that psi serves, whose values are at their
        /// provider
        #[arg(long, conflicts_with = "names")]
        all: bool,
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

/// The dialect of an env-file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EnvFileFormat {
    /// Docker Compose's: quotes, comments, $NAME of earlier lines
    Compose,
    /// podman's and docker's --env-file: the rest of the line is the value, quotes included
    Podman,
    /// .env files, as the npm package dotenv, node --env-file and python-dotenv agree
    Dotenv,
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
