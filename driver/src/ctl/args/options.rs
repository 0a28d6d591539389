//! The options of the commands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

#[derive(Args)]
pub(crate) struct AddOptions {
    /// The podman name
    pub(crate) name: String,
    /// Read the value from stdin and store it as it is
    #[arg(long, required_unless_present = "key", conflicts_with_all = ["project", "path", "key"])]
    pub(crate) literal: bool,
    /// The project's name in the config
    #[arg(long, value_name = "NAME", requires = "key")]
    pub(crate) project: Option<String>,
    /// The directory in the project
    #[arg(
        long,
        value_name = "PATH",
        requires = "key",
        default_value_if("key", clap::builder::ArgPredicate::IsPresent, "/")
    )]
    pub(crate) path: Option<String>,
    /// The key in the directory
    #[arg(long, requires = "project")]
    pub(crate) key: Option<String>,
    /// The permanent path of psi-driver (default: the one of `psictl install`)
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ApplyChangesOptions {
    /// A workload of the config (default: each whose on_change asks for it)
    pub(crate) workloads: Vec<String>,
    /// Only workloads that psid marked since the last run, after a random delay of at most on_change_jitter each
    #[arg(long, conflicts_with = "workloads")]
    pub(crate) marked: bool,
    /// Print what would be restarted, and change nothing; exit with 0 if there is nothing, else 1
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct DrillOptions {
    /// Duration, from 1s to 1h
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    pub(crate) span: Duration,
    /// Print JSON at the end
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct InstallOptions {
    /// Print the drop-in instead of writing it
    #[arg(long)]
    pub(crate) stdout: bool,
    /// Write the drop-in although psid could not store a secret now
    #[arg(long)]
    pub(crate) force: bool,
    /// The permanent path of psi-driver: podman copies it into every secret
    #[arg(long, value_name = "PATH", default_value = "/usr/bin/psi-driver")]
    pub(crate) program: PathBuf,
}

#[derive(Args)]
pub(crate) struct LoginOptions {
    /// The provider's name in the config, such as infisical (default: each)
    pub(crate) provider: Option<String>,
    /// Retry a refused login once now; too many refused logins lock the identity for every host
    #[arg(long)]
    pub(crate) retry: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct SetupOptions {
    /// Print the changes and the drift, and change nothing; exit with 0 if there is no drift, else 1
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove podman secrets and drop-in lines that no workload lists any more
    #[arg(long)]
    pub(crate) prune: bool,
    /// With --prune: remove even if most of a directory's secrets, or all workloads, are gone
    #[arg(long, requires = "prune")]
    pub(crate) accept_removals: bool,
    /// Only the workloads of this provider of the config, such as infisical
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The permanent path of psi-driver (default: the one of `psictl install`)
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
    /// The directory of the quadlet units
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) quadlets: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct DependentsOptions {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct GcOptions {
    /// Print what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Another podman's graph root to read; every user's default store and those of psid's registrations are always read
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) store: Vec<PathBuf>,
    /// Remove even if a store lost more than half of its secrets, or more than 50
    #[arg(long)]
    pub(crate) accept_removals: bool,
    /// Permanently remove values of podman's file driver that no secret refers to and psid does not serve
    #[arg(long)]
    pub(crate) remove_plaintext: bool,
    /// Remove whatever the stores that were read do not have, proven to be unused or not, as after `podman system reset`
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct DoctorOptions {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The permanent path of psi-driver (default: the one of `psictl install`)
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
    /// The directory of the quadlet units (default: those that quadlet reads)
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) quadlets: Option<PathBuf>,
    /// The directory of other units (default: systemd's for local units)
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) units: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ExecOptions {
    /// A workload of the config; of several with the same key, the later one wins
    #[arg(long, short, value_name = "NAME")]
    pub(crate) workload: Vec<String>,
    /// Set this variable even though it chooses what programs load or run, as PATH and LD_PRELOAD do
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) allow: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct EnvOptions {
    /// A workload of the config; of several with the same key, the later one wins
    #[arg(long, short, value_name = "NAME")]
    pub(crate) workload: Vec<String>,
    /// The form of the output
    #[arg(long, value_name = "FORM", default_value = "env")]
    pub(crate) format: EnvFormat,
    /// Print this variable even though it chooses what programs load or run, as PATH and LD_PRELOAD do
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) allow: Vec<String>,
}

/// The form of variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EnvFormat {
    /// NAME=VALUE lines without quotes, for podman's and docker's --env-file
    Env,
    /// export commands of a POSIX shell
    Export,
    /// A JSON object
    Json,
}

/// How a template's values are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Escape {
    /// The bytes as they are
    None,
    /// For the inside of a JSON string, whose quotes are the template's
    Json,
    /// A word of a POSIX shell, with its quotes
    Shell,
}

#[derive(Args)]
pub(crate) struct RenderOptions {
    /// A directory on a tmpfs; it is created if it is missing
    pub(crate) directory: PathBuf,
    /// A workload of the config; of several with the same key, the later one wins
    #[arg(long, short, value_name = "NAME")]
    pub(crate) workload: Vec<String>,
    /// Write this text file with {{ secret "KEY" }} replaced, under its name without .tmpl, instead of a file for each key
    #[arg(long, value_name = "FILE")]
    pub(crate) template: Vec<PathBuf>,
    /// How the values in a template are escaped
    #[arg(long, value_name = "HOW", default_value = "none", requires = "template")]
    pub(crate) escape: Escape,
    /// Write even to a disk, where removed values may remain
    #[arg(long)]
    pub(crate) force: bool,
    /// The mode of the files
    #[arg(long, value_name = "OCTAL", default_value = "0400", value_parser = octal)]
    pub(crate) mode: u32,
    /// The owner and group of the files and of the directory, as numbers
    #[arg(long, value_name = "UID:GID", value_parser = owner)]
    pub(crate) owner: Option<(u32, u32)>,
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "not a mode like 0440".into())
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let numbers =
        text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.ok_or_else(|| "not a UID:GID like 1000:1000".into())
}
