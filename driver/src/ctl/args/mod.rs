//! The command line.

mod bring;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use psi_proto::v1::StoreKind;

use crate::args::{Verb, shown};

pub(crate) use bring::{ImportCommand, ImportOptions, MigrateOptions, OldStore, OnConflict};

const EXIT_STATUS: &str = "Exit status: 0 done, 1 drift or findings, 2 usage, 65 bad input or config, \
    66 no such secret, 69 no daemon, 74 local I/O failed, 75 try later, 76 protocol error, 77 not allowed.";

/// Administers psi: the cache, the secrets of podman, and psid.
#[derive(Parser)]
#[command(name = "psictl", version, arg_required_else_help = true)]
#[command(after_help = EXIT_STATUS)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// Podman's secret driver: reads, stores and deletes secrets through psid.
///
/// Podman runs lookup, store, delete and list; scripts run get and health. Any other command, and --help, replaces the
/// process by psictl(1) of the same directory, with the same arguments.
#[derive(Parser)]
#[command(name = "psi-driver", version, after_help = EXIT_STATUS)]
struct DriverLine {
    #[command(subcommand)]
    command: DriverCommand,
}

/// One command.
#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Driver(DriverCommand),
    /// Bring back what podman deleted within the last ten minutes; without an id, list it
    Restore {
        /// The id under which it was deleted
        #[arg(conflicts_with = "all")]
        id: Option<String>,
        /// Bring back all of it
        #[arg(long)]
        all: bool,
    },
    /// Make a podman secret that psi keeps: sealed, whatever the text looks like
    ///
    /// The value is read from stdin, or asked for without an echo at a terminal, where its one line is taken without
    /// its end. Podman calls `psi-driver store --literal` for this secret, so that a text that looks like a
    /// reference is stored as it is.
    Add(AddOptions),
    /// Write the podman drop-in that makes psi the secret driver
    Install(InstallOptions),
    /// Register every workload's secrets with podman, and write the quadlet drop-ins
    Setup(SetupOptions),
    /// Tell what would keep a container from starting now, and where secrets are in clear
    Doctor(DoctorOptions),
    /// Remove what psid keeps and no podman asks for any more
    Gc(GcOptions),
    /// Make psi the driver of secrets that podman's file driver or the Python PSI has now
    ///
    /// Each secret keeps its id and its name, and there is no moment without it: psid gets its value, what
    /// psi serves is compared with the old value byte for byte, and then podman's record is replaced under
    /// podman's lock, by one write for all. A value in clear stays where it is without --remove-plaintext.
    /// It may be interrupted and run again at any time.
    Migrate(MigrateOptions),
    /// Bring secrets into Infisical: out of env-files, podman secrets or quadlet units
    ///
    /// psid looks at what the folder has, writes what is new, and reads it back. What Infisical would not keep
    /// byte for byte is refused by its key, and the rest is done.
    Import {
        #[command(subcommand)]
        command: ImportCommand,
    },
    /// Run a command with a workload's secrets in its environment
    Exec(ExecOptions),
    /// Write a workload's secrets as files into a folder in RAM
    Render(RenderOptions),
    /// The encrypted cache
    Cache {
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// The PKCS#11 token of [providers.pkcs11]
    Hsm {
        #[command(subcommand)]
        command: HsmCommand,
    },
    /// Treat every provider as out for a while, and tell which secrets an outage would cost
    ///
    /// Containers are served as they would be in an outage: from the cache. It ends by itself, with
    /// Ctrl-C, and when psictl is killed. Exit status: 0 when nothing would fail, else 75.
    Drill(DrillOptions),
    /// Print psid's metrics in Prometheus' text format, for node_exporter's textfile collector
    Metrics,
}

/// psi-driver's verbs, which psictl has too.
#[derive(Subcommand)]
pub(crate) enum DriverCommand {
    /// Write the value of $SECRET_ID to stdout, byte for byte (podman calls this)
    Lookup,
    /// Store stdin under $SECRET_ID (podman calls this)
    Store(Kind),
    /// Forget $SECRET_ID (podman calls this), or the secret of an id
    Delete {
        /// The id, in the place of $SECRET_ID
        id: Option<String>,
        /// Also while psid can store nothing, which it refuses podman: `podman secret rm` passes after it
        #[arg(long, requires = "id")]
        force: bool,
    },
    /// List the registered ids, one a line, sorted
    List,
    /// Write a secret's value to stdout, by podman name, WORKLOAD--KEY, id or reference
    Get {
        /// A podman secret's name or id, WORKLOAD--KEY of the config, or {"provider":…}
        name: String,
    },
    /// Exit 0 when the daemon answers SERVING
    Health,
}

/// How stdin is taken; without either, a JSON object whose provider is configured is a reference.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct Kind {
    /// Take stdin as a literal whatever it looks like: sealed before it touches the disk
    #[arg(long)]
    pub(crate) literal: bool,
    /// Take stdin as a reference, and refuse it when it is none
    #[arg(long)]
    pub(crate) reference: bool,
}

#[derive(Args)]
pub(crate) struct AddOptions {
    /// Its podman name
    pub(crate) name: String,
    /// Take the text as it is
    #[arg(long, required = true)]
    pub(crate) literal: bool,
    /// Where psi-driver stays for good (default: where `psictl install` said)
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct DrillOptions {
    /// How long, from 1s to 1h
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    pub(crate) span: Duration,
    /// Print JSON, once it is over
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct InstallOptions {
    /// Print the drop-in instead of writing it
    #[arg(long)]
    pub(crate) stdout: bool,
    /// Where psi-driver stays for good: podman copies the path into every secret
    #[arg(long, value_name = "PATH", default_value = "/usr/bin/psi-driver")]
    pub(crate) program: PathBuf,
}

#[derive(Args)]
pub(crate) struct SetupOptions {
    /// Tell what would be done, and what differs; exit 0 when nothing does, else 1
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove what no workload lists any more: podman secrets and lines of drop-ins
    #[arg(long)]
    pub(crate) prune: bool,
    /// With --prune: also when most of a folder's secrets, or all workloads, are gone at once
    #[arg(long, requires = "prune")]
    pub(crate) accept_removals: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Where psi-driver stays for good (default: where `psictl install` said)
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
    /// The folder of the quadlet units
    #[arg(long, value_name = "FOLDER")]
    pub(crate) quadlets: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct GcOptions {
    /// Tell what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Another podman's graph root to look at; every user's own, and those that psid has a note of, are looked at anyway
    #[arg(long, value_name = "FOLDER")]
    pub(crate) store: Vec<PathBuf>,
    /// Also when a store lost more than half of its secrets, or more than 50
    #[arg(long)]
    pub(crate) accept_removals: bool,
    /// Remove from podman's file driver, for good, values that no secret refers to and that psid does not serve
    #[arg(long)]
    pub(crate) remove_plaintext: bool,
    /// Remove what no podman that was looked at has, proven to be unused or not, as after `podman system reset`
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct DoctorOptions {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Where psi-driver stays for good (default: where `psictl install` said)
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
    /// The folder of the quadlet units
    #[arg(long, value_name = "FOLDER")]
    pub(crate) quadlets: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ExecOptions {
    /// A workload of the config; of several with one key, the later one's counts
    #[arg(long, short, value_name = "NAME")]
    pub(crate) workload: Vec<String>,
    /// Set this variable although it chooses what programs load or run, as PATH and LD_PRELOAD do
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) allow: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct RenderOptions {
    /// A folder on a tmpfs; it is made when it is not there
    pub(crate) folder: PathBuf,
    /// A workload of the config; of several with one key, the later one's counts
    #[arg(long, short, value_name = "NAME")]
    pub(crate) workload: Vec<String>,
    /// Also on a disk, where what is removed may stay
    #[arg(long)]
    pub(crate) force: bool,
    /// The files' mode
    #[arg(long, value_name = "OCTAL", default_value = "0400", value_parser = octal)]
    pub(crate) mode: u32,
    /// The files' owner and group, by number
    #[arg(long, value_name = "UID:GID", value_parser = owner)]
    pub(crate) owner: Option<(u32, u32)>,
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "it is no mode like 0440".into())
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let numbers =
        text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.ok_or_else(|| "it is no UID:GID like 1000:1000".into())
}

/// What an admin does with the cache.
#[derive(Subcommand)]
pub(crate) enum CacheCommand {
    /// Make a key, seal it, prove that it opens, and write an empty cache
    Init(InitOptions),
    /// Tell the cache's state, each provider's, and whether a reboot now would survive an outage
    Status {
        /// Also read cache.enc back and compare it with what the daemon holds
        #[arg(long)]
        verify: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Pull every configured source now
    Refresh {
        /// Believe a provider at once that has most of a source no more, or values that turned empty
        #[arg(long)]
        accept_removals: bool,
        /// Try a refused login once more now: too many refused ones lock an identity for every host
        #[arg(long)]
        retry: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Drop one entry, so that the next lookup fetches it
    Invalidate {
        /// A podman secret's name or id, WORKLOAD--KEY of the config, or {"provider":…}
        target: String,
    },
    /// Make a new data key and seal everything under it; safe to interrupt
    Rekey(SealArgs),
    /// Bring the key back with the recovery key, read from stdin, after a change of board or firmware
    Recover(SealArgs),
    /// Make a new recovery key in the place of any other one, and show it
    RecoveryKey,
}

/// How a key is sealed; without either, as the present one.
#[derive(Args)]
pub(crate) struct SealArgs {
    /// What systemd-creds seals the key to
    #[arg(long, value_name = "KEY")]
    pub(crate) seal_with: Option<SealWith>,
    /// The PCRs that must be the same to unseal, as 7 or 7+11; empty for none
    #[arg(long, value_name = "PCRS")]
    pub(crate) tpm2_pcrs: Option<String>,
}

/// What an admin does with the token.
#[derive(Subcommand)]
pub(crate) enum HsmCommand {
    /// Check all that psid needs of the token, step by step; psid need not run
    ///
    /// The PIN is tried once at most, not when it was refused before, by whichever process of psi's, and not
    /// when the token says that the last try is left. The steps are config, module, socket, token, PIN, key, mechanisms and a round trip: a key that is wrapped
    /// here and unwrapped by the token, and a signature by the token that is verified here.
    Preflight {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Try the PIN once, though it was refused
        #[arg(long)]
        retry: bool,
    },
    /// Tell of the token and its key, as psid sees them
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Seal stdin to the token's key, and print the command that gives it to podman
    ///
    /// The secret is encrypted to the token's public key, and opened once to prove that the token does
    /// so. Nothing is kept: what is printed holds the sealed secret, `psictl hsm store NAME <file | sh`
    /// registers it at once. The token must be there when the secret is first looked up after a start.
    Store {
        /// The podman secret's name
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct InitOptions {
    /// Where the key lives: tpm (sealed by systemd-creds) or hsm (wrapped by a PKCS#11 token); default: as
    /// backend in the config
    #[arg(long)]
    pub(crate) backend: Option<Backend>,
    /// What systemd-creds seals the key to; where the config demands another, its line seal_with is changed
    /// (default: as the config demands)
    #[arg(long, value_name = "KEY")]
    pub(crate) seal_with: Option<SealWith>,
    /// The PCRs that must be the same to unseal, as 7 or 7+11; empty for none
    #[arg(long, value_name = "PCRS", default_value = "7")]
    pub(crate) tpm2_pcrs: String,
    /// Replace a readable cache or a key in use: what only they hold is lost
    #[arg(long)]
    pub(crate) force: bool,
    /// Make no recovery key
    #[arg(long)]
    pub(crate) no_recovery_key: bool,
    /// Try the token's PIN once, though it was refused
    #[arg(long)]
    pub(crate) retry: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Backend {
    Tpm,
    Hsm,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SealWith {
    Tpm2,
    Host,
    #[value(name = "host+tpm2")]
    HostTpm2,
    Auto,
}

/// psictl's command line as clap has it: for man pages and completions.
pub fn ctl_command_line() -> clap::Command {
    CommandLine::command()
}

/// psi-driver's, likewise. psi-driver itself does not link it.
pub fn driver_command_line() -> clap::Command {
    DriverLine::command()
}

/// Parses the arguments; `Err` is help, version or a usage error, already printed.
pub(crate) fn parse(args: &[OsString]) -> Result<Command, ExitCode> {
    match CommandLine::try_parse_from(args) {
        Ok(line) => Ok(line.command),
        Err(error) => {
            // A terminal that went away can be told nothing.
            let _ = error.print();
            Err(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1)))
        }
    }
}

/// Where the caller looks for programs.
#[expect(clippy::disallowed_methods, reason = "the one place that reads PATH")]
pub(crate) fn search_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

impl Command {
    /// The command's name in messages: with its id or name, where it has one.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Driver(DriverCommand::Delete { id: Some(id), .. }) => {
                format!("delete {}", shown(id))
            }
            Self::Driver(command) => command.verb().title(),
            Self::Add(AddOptions { name, .. }) => format!("add {}", shown(name)),
            Self::Restore { id, .. } => {
                format!("restore {}", shown(id.as_deref().unwrap_or_default())).trim_end().into()
            }
            Self::Install(_) => "install".into(),
            Self::Drill(_) => "drill".into(),
            Self::Metrics => "metrics".into(),
            Self::Setup(_) => "setup".into(),
            Self::Doctor(_) => "doctor".into(),
            Self::Gc(_) => "gc".into(),
            Self::Migrate(_) => "migrate".into(),
            Self::Import { command } => format!("import {}", command.name()),
            Self::Exec(_) => "exec".into(),
            Self::Render(_) => "render".into(),
            Self::Cache { command } => match command {
                CacheCommand::Init(_) => "cache init".into(),
                CacheCommand::Status { .. } => "cache status".into(),
                CacheCommand::Refresh { .. } => "cache refresh".into(),
                CacheCommand::Invalidate { target } => {
                    format!("cache invalidate {}", shown(target))
                }
                CacheCommand::Rekey(_) => "cache rekey".into(),
                CacheCommand::Recover(_) => "cache recover".into(),
                CacheCommand::RecoveryKey => "cache recovery-key".into(),
            },
            Self::Hsm { command } => match command {
                HsmCommand::Preflight { .. } => "hsm preflight".into(),
                HsmCommand::Status { .. } => "hsm status".into(),
                HsmCommand::Store { name } => format!("hsm store {}", shown(name)),
            },
        }
    }
}

impl DriverCommand {
    /// The same as psi-driver parses it; `delete ID` is no verb of psi-driver's.
    pub(crate) fn verb(&self) -> Verb {
        match self {
            Self::Lookup => Verb::Lookup,
            Self::Store(kind) => Verb::Store(kind.of_wire()),
            Self::Delete { .. } => Verb::Delete,
            Self::List => Verb::List,
            Self::Get { name } => Verb::Get { name: name.clone() },
            Self::Health => Verb::Health,
        }
    }
}

impl Kind {
    fn of_wire(&self) -> StoreKind {
        match self {
            Self { literal: true, .. } => StoreKind::Literal,
            Self { reference: true, .. } => StoreKind::Reference,
            _ => StoreKind::Unspecified,
        }
    }
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Hsm => "hsm",
        }
    }
}

impl SealWith {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tpm2 => "tpm2",
            Self::Host => "host",
            Self::HostTpm2 => "host+tpm2",
            Self::Auto => "auto",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        ctl_command_line().debug_assert();
        driver_command_line().debug_assert();
    }

    /// psi-driver's own parser and clap's take a verb for the same.
    #[test]
    fn every_verb_of_the_driver_parses_alike_in_psictl() {
        for words in [
            &["lookup"][..],
            &["store"],
            &["store", "--literal"],
            &["store", "--reference"],
            &["delete"],
            &["list"],
            &["get", "db"],
            &["health"],
        ] {
            let args: Vec<OsString> =
                std::iter::once(&"psictl").chain(words).map(OsString::from).collect();
            let verb = Verb::parse(&args).unwrap();
            match CommandLine::try_parse_from(&args).ok().unwrap().command {
                Command::Driver(command) => assert_eq!(command.verb(), verb, "{words:?}"),
                _ => panic!("{words:?} is no verb"),
            }
        }
    }

    #[test]
    fn a_command_line_beyond_the_verbs_is_not_the_driver_s() {
        for words in [
            &[][..],
            &["lookup", "-h"],
            &["store", "--literal", "--reference"],
            &["delete", "3f0c"],
            &["get"],
            &["get", "--help"],
            &["cache", "status"],
            &["--help"],
            &["Lookup"],
            &[""],
        ] {
            let args: Vec<OsString> =
                std::iter::once(&"psi-driver").chain(words).map(OsString::from).collect();
            assert_eq!(Verb::parse(&args), None, "{words:?}");
        }
        assert_eq!(Verb::parse(&[]), None);
    }
}
