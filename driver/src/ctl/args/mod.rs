//! The command lines of both programs, by clap.

mod cache;
mod import;
mod init;
mod migrate;
mod options;
mod secrets;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use psi_proto::v1::StoreKind;

use crate::args::{Verb, shown};

pub(crate) use cache::{Backend, CacheCommand, HsmCommand, InitOptions, SealArgs};
pub(crate) use import::{EnvFileFormat, ImportCommand, ImportOptions, OnConflict};
pub(crate) use init::{
    KeyArgs, LoginMethod, ProjectArg, ProviderArgs, SealCredentialOptions, SetUpHostOptions,
    WorkloadArg,
};
pub(crate) use migrate::{MigrateOptions, OldStore};
pub(crate) use options::{
    AddOptions, ApplyChangesOptions, DependentsOptions, DoctorOptions, DrillOptions, EnvFormat,
    EnvOptions, Escape, ExecOptions, GcOptions, InstallOptions, LoginOptions, RenderOptions,
    SetupOptions,
};
pub(crate) use secrets::{SecretKind, SecretsOptions, SortBy};

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
    /// Set psi up on this host: from an installed package to secrets that podman's containers can have
    ///
    /// Asks for Infisical's URL, the login and the project, and for the key of the cache; flags answer too. It logs in
    /// first, with nothing written. Then it seals the client secret, writes the config, checks that psid can open both,
    /// creates the key of the cache with its recovery key, starts psid, makes psi podman's secret driver and proves it
    /// with a secret, fetches the secrets, and registers those of the workloads. Each step prints the plain command that
    /// does the same. What is done already is left as it is, so that the command can be repeated and interrupted at any
    /// time.
    Init(Box<SetUpHostOptions>),
    /// Seal a credential of psid's, such as a client secret or a PIN, and write it beside the config
    ///
    /// The secret is read from stdin; at a terminal, one line is read without an echo. It is sealed by systemd-creds(1)
    /// with the flags that this systemd and this TPM can do, opened once to prove it, and written with mode 0644: the file
    /// is encrypted, and psid's user must be able to read it. psid reads it at each login.
    Seal(SealCredentialOptions),
    /// Print the state, as `cache status` does: exit status 0 if all is well, 1 if psid is degraded, 69 if it is down
    Status(StatusOptions),
    /// List every registered secret: its kind, workload, owner, age and last use; never a value
    ///
    /// FETCHED is when the provider last returned the value, or when a literal was stored; CHANGED is when psid first saw
    /// the present value. LAST USE is the last lookup by podman since psid started, with the user, as the kernel names it,
    /// and the systemd unit of the calling process. The unit is a hint: a user decides what runs in a unit of its own.
    /// The journal has the first lookup of each value by each user and unit.
    Secrets(SecretsOptions),
    /// Restore registrations that were deleted within the last ten minutes; without an id, list them
    Restore {
        /// The id of the deleted registration
        #[arg(conflicts_with = "all")]
        id: Option<String>,
        /// Restore all of them
        #[arg(long)]
        all: bool,
    },
    /// Create one podman secret: a reference to a key of a provider, or a literal
    ///
    /// With --key, psid looks the key up first, and podman gets a secret only if it has a value. The secret follows the
    /// key from then on.
    ///
    /// With --literal, the value is read from stdin; at a terminal, one line is read without an echo. psid encrypts it.
    /// Podman calls `psi-driver store --literal` for this secret, so that text that looks like a reference is stored as it
    /// is.
    Add(AddOptions),
    /// Write the podman drop-in that makes psi the default secret driver
    Install(InstallOptions),
    /// Log in with each configured identity, list each source, and print what is refused
    ///
    /// Each identity logs in once. For each source the number of its keys is printed, and the keys that no container can
    /// have; no value is shown and nothing is registered. The running psid asks with the config that it runs with; without
    /// a daemon, `psid check --online` is run. Exit status: 0 if all is well, 1 if keys are left out, 65 if the config,
    /// the client secret or a permission must be corrected, 75 if the server does not answer or asks to wait.
    Login(LoginOptions),
    /// Create every workload's secrets in podman, and write the quadlet drop-ins
    Setup(SetupOptions),
    /// Find problems that would keep a container from starting, and secrets stored in plaintext
    Doctor(DoctorOptions),
    /// Remove registrations that no podman store has any more
    Gc(GcOptions),
    /// Print the podman secrets that psi serves and the containers that use them: without psi they fail
    ///
    /// Reads the records of root's podman and of every user's at its usual place, and those of the stores that psid knows.
    /// psid need not run. The packages run it before they are removed: a removal is refused while something depends on
    /// psi, unless the variable PSI_REMOVE is `force`.
    Dependents(DependentsOptions),
    /// Move secrets from podman's file driver or the Python PSI to psi, or back to the file driver
    ///
    /// Each secret keeps its id and its name and is available throughout: psid stores its value, the value that psi
    /// serves is compared with the old one byte for byte, and then podman's record is replaced under podman's lock, by
    /// one write for all secrets. Plaintext values are kept unless --remove-plaintext is given. The command may be
    /// interrupted and repeated at any time.
    ///
    /// --to file is the way back: psid is asked for each value, podman's file driver gets all of them by one write,
    /// podman's record is replaced by another, and psid's registrations are removed. The values are then in plaintext on
    /// the disk, and a reference no longer follows its provider. A secret whose value cannot be read stays psi's.
    Migrate(MigrateOptions),
    /// Import secrets into Infisical from env-files, podman secrets or quadlet units
    ///
    /// psid compares them with the directory, writes the new ones, and reads them back. A value that Infisical would not
    /// keep byte for byte is rejected by its key; the others are imported.
    Import {
        #[command(subcommand)]
        command: ImportCommand,
    },
    /// Restart the units that run with an older value of a secret, one at a time
    ///
    /// psid remembers when each value changed. A unit that began to start before that has the older value, unless the trail
    /// has a later lookup by it. Without an argument, the units of each workload whose on_change is "restart" or
    /// "reload"; with one, those of that workload. A unit is restarted by `systemctl try-restart` and must be active before
    /// the next one; the first that is not ends the run. Nothing is restarted during a drill, or while the provider does not
    /// answer.
    ApplyChanges(ApplyChangesOptions),
    /// Run a command with a workload's secrets in its environment
    Exec(ExecOptions),
    /// Print a workload's variables for an env-file, a shell or a program that reads JSON
    ///
    /// The values go to stdout, with quotes as the form has them. A key that no variable can carry, a value that the form
    /// cannot hold, and a variable that chooses what programs load or run are errors that name the key; then nothing is
    /// printed.
    Env(EnvOptions),
    /// Write a workload's secrets as files into a directory in RAM
    ///
    /// Each key becomes a file of its name, whole and of mode 0400, in a directory that only root or the caller can
    /// change, as well as all its parents. With --owner, a directory that is new or has no other files is given to that
    /// owner too. A second run removes files of keys that are gone. In an outage it removes none; if a value is missing, it
    /// writes none.
    ///
    /// With --template, each template becomes a file instead. In it, {{ secret "KEY" }} stands for the value of a key; there
    /// is no other expression. An unknown key or a malformed expression is an error that names its line and column, and then
    /// nothing is written.
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
    /// Simulate an outage of every provider, and report the secrets that would fail
    ///
    /// Containers are served as in an outage: from the cache. The drill ends after its time, with Ctrl-C, and when
    /// psictl is killed. Exit status: 0 if nothing would fail, else 75.
    Drill(DrillOptions),
    /// Print psid's metrics in Prometheus' text format, for node_exporter's textfile collector
    Metrics,
}

/// What `psictl status` and `psictl cache status` print.
#[derive(Args)]
pub(crate) struct StatusOptions {
    /// Also read cache.enc and compare it with the daemon's values
    #[arg(long)]
    pub(crate) verify: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// psi-driver's verbs, which psictl has too.
#[derive(Subcommand)]
pub(crate) enum DriverCommand {
    /// Write the value of $SECRET_ID to stdout, byte for byte (podman calls this)
    Lookup,
    /// Store stdin under $SECRET_ID (podman calls this)
    Store(Kind),
    /// Delete the registration of $SECRET_ID (podman calls this), or of the given id
    Delete {
        /// The id, instead of $SECRET_ID
        id: Option<String>,
        /// Delete even while psid cannot store anything; `podman secret rm` succeeds afterwards
        #[arg(long, requires = "id")]
        force: bool,
    },
    /// List the registered ids, one on each line, sorted
    List,
    /// Write a secret's value to stdout, by podman name, WORKLOAD--KEY, id or reference
    Get {
        /// A podman secret's name or id, WORKLOAD--KEY, or a reference {"provider":…}
        name: String,
    },
    /// Exit with 0 if the daemon answers SERVING
    Health,
}

/// How stdin is read. Without either, a JSON object whose provider is configured is a reference.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct Kind {
    /// Store stdin as a literal, even if it looks like a reference; it is encrypted before it is written
    #[arg(long)]
    pub(crate) literal: bool,
    /// Store stdin as a reference; reject other text
    #[arg(long)]
    pub(crate) reference: bool,
}

/// The command line of psictl, for man pages and completions.
pub fn ctl_command_line() -> clap::Command {
    CommandLine::command()
}

/// The command line of psi-driver, for man pages and completions. psi-driver itself does not link it.
pub fn driver_command_line() -> clap::Command {
    DriverLine::command()
}

/// Parses the arguments; `Err` is help, version or a usage error, already printed.
pub(crate) fn parse(args: &[OsString]) -> Result<Command, ExitCode> {
    match CommandLine::try_parse_from(args) {
        Ok(line) => Ok(line.command),
        Err(error) => {
            // An error of the terminal cannot be reported.
            let _ = error.print();
            Err(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1)))
        }
    }
}

/// The caller's search path of programs.
#[expect(clippy::disallowed_methods, reason = "the one place that reads PATH")]
pub(crate) fn search_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

impl Command {
    /// The command's name in messages, with its id or name if it has one.
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
            Self::Init(_) => "init".into(),
            Self::Seal(options) => format!("seal {}", shown(&options.name)),
            Self::Status(_) => "status".into(),
            Self::Secrets(_) => "secrets".into(),
            Self::Install(_) => "install".into(),
            Self::Drill(_) => "drill".into(),
            Self::Metrics => "metrics".into(),
            Self::Login(_) => "login".into(),
            Self::Setup(_) => "setup".into(),
            Self::Doctor(_) => "doctor".into(),
            Self::Dependents(_) => "dependents".into(),
            Self::Gc(_) => "gc".into(),
            Self::Migrate(_) => "migrate".into(),
            Self::Import { command } => format!("import {}", command.name()),
            Self::ApplyChanges(_) => "apply-changes".into(),
            Self::Exec(_) => "exec".into(),
            Self::Env(_) => "env".into(),
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
    /// The verb as psi-driver parses it; psi-driver has no `delete ID`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_consistent() {
        ctl_command_line().debug_assert();
        driver_command_line().debug_assert();
    }

    /// psi-driver's parser and clap agree on each verb.
    #[test]
    fn verbs_parse_alike_in_both_programs() {
        for line in [
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
                std::iter::once(&"psictl").chain(line).map(OsString::from).collect();
            let verb = Verb::parse(&args).unwrap();
            match CommandLine::try_parse_from(&args).ok().unwrap().command {
                Command::Driver(command) => assert_eq!(command.verb(), verb, "{line:?}"),
                _ => panic!("{line:?} is not a verb"),
            }
        }
    }

    #[test]
    fn parse_rejects_other_command_lines() {
        for line in [
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
                std::iter::once(&"psi-driver").chain(line).map(OsString::from).collect();
            assert_eq!(Verb::parse(&args), None, "{line:?}");
        }
        assert_eq!(Verb::parse(&[]), None);
    }
}
