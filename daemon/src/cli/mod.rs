//! psid's command line: parse, run the command, exit.

mod broken_config;
mod check;
pub mod doctor;
mod environment;
mod error;
pub mod init;
mod migrate;
pub mod preflight;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use psi_common::{Exit, Problem, SealMode, for_own_scope};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::check::{CheckOptions, Prepared};
use crate::cli::doctor::containers_conf::PodmanVersion;
use crate::cli::error::CommandError;
use crate::cli::init::InitOptions;
use crate::cli::migrate::MigrateOptions;
use crate::config::Config;
use crate::keys::credential;
use crate::runtime::build::Environment;
use crate::runtime::{listener, serve::serve};
use crate::sys::logging::{self, Format, Verbosity};
use crate::sys::{hardening, malloc};

/// The default socket of pcscd.
const PCSCD: &str = "/run/pcscd/pcscd.comm";

/// The daemon behind psi-driver: holds the decrypted secrets in RAM, fetches and persists them.
#[derive(Parser)]
#[command(name = "psid", version)]
struct CommandLine {
    /// The config file (default: /etc/psi/config.toml, or the user's)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the log is written
    #[arg(long, value_enum, default_value = "auto")]
    log_format: Format,
    /// How much is logged
    #[arg(long, value_enum, default_value = "info")]
    log_level: Verbosity,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Check the config, and report the line with a fault
    Check(CheckOptions),
    /// Take over the secrets of psi version 1, while psid is stopped (`psictl migrate --from psi --cache` runs this)
    Migrate {
        /// The program: psi (version 1, the Python PSI)
        #[arg(long, value_parser = ["psi"])]
        from: String,
        /// Its state directory, or one cache file; no file in it is changed
        dir: PathBuf,
        /// The key of its tpm backend: 32 bytes, or sealed by systemd-creds as psi-cache-key (default: psid's own)
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Report what would be taken over, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Report the findings about this host, as JSON (`psictl doctor` runs this)
    Doctor {
        /// Podman's version
        #[arg(long)]
        podman: Option<PodmanVersion>,
        /// The path of psi-driver in podman's commands
        #[arg(long, default_value = "/usr/bin/psi-driver")]
        program: String,
    },
    /// Open or seal the credential that stdin names (psid-creds.socket runs this)
    Creds,
    /// Make and seal a key, and write an empty cache (`psictl cache init` runs this)
    Init {
        /// The key backend (default: that of the config)
        #[arg(long, value_parser = ["tpm", "hsm"])]
        backend: Option<String>,
        /// What systemd-creds seals the key to; if it differs, seal_with in the config is changed
        /// (default: seal_with of the config)
        #[arg(long, value_parser = SealMode::NAMES)]
        seal_with: Option<String>,
        /// The PCRs that must be the same to unseal; empty for none
        #[arg(long, default_value = "7")]
        tpm2_pcrs: String,
        /// Replace a key or a cache that is in use
        #[arg(long)]
        force: bool,
        /// Make no recovery key
        #[arg(long)]
        no_recovery_key: bool,
        /// Write the recovery key to this file of mode 0600 instead of showing it
        #[arg(long, value_name = "FILE", conflicts_with = "no_recovery_key")]
        recovery_key_file: Option<PathBuf>,
        /// Try the token's PIN once, even if it was refused before
        #[arg(long)]
        retry: bool,
    },
    /// Check step by step what psid needs of the token (`psictl hsm preflight` runs this)
    Preflight {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Try the PIN once, even if it was refused before
        #[arg(long)]
        retry: bool,
    },
}

/// The command line as clap describes it, for man pages and completions.
pub fn command_line() -> clap::Command {
    CommandLine::command()
}

/// Runs psid. An error is one line on stderr, and the exit status is one of [`Exit`].
pub fn run() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    let name = line.command.as_ref().and_then(Command::name);
    let prefix = name.map_or_else(String::new, |name| format!("{name}: "));
    match execute(line) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            print_error(&format!("psid: {prefix}{error}"));
            error.exit.into()
        }
    }
}

fn execute(line: CommandLine) -> Result<(), CommandError> {
    let mut prepared = Prepared::default();
    if let Some(Command::Check(options)) = &line.command {
        prepared.take_descriptors(options, line.config.as_deref());
    }
    let mut environment = environment::of_this_process(line.config);
    if let Some(Command::Check(options)) = &line.command {
        prepared.become_psids_user(options, &mut environment)?;
    }
    let missing_protections = hardening::harden();
    malloc::keep_no_large_block();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // TasksMax= of the unit allows them.
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .map_err(|error| {
            CommandError::io(
                format!("psid cannot start threads: {error}"),
                "check the limits on threads",
            )
        })?;
    let Some(command) = line.command else {
        let (format, verbosity) = (line.log_format, line.log_level);
        logging::start(format, verbosity, environment::variable("JOURNAL_STREAM").as_deref());
        return runtime.block_on(run_daemon(&environment, &missing_protections));
    };
    runtime.block_on(command.run(environment, prepared))
}

impl Command {
    /// The prefix of its error message.
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Check(_) | Self::Doctor { .. } => None,
            Self::Migrate { .. } => Some("migrate"),
            Self::Creds => Some("creds"),
            Self::Init { .. } => Some("init"),
            Self::Preflight { .. } => Some("preflight"),
        }
    }

    async fn run(self, environment: Environment, prepared: Prepared) -> Result<(), CommandError> {
        let environment = match self {
            Self::Check(options) => return check::run(environment, &options, prepared).await,
            _ => &environment,
        };
        match self {
            Self::Check(_) => Ok(()),
            Self::Migrate { from: _, dir, key, dry_run, json } => {
                migrate(environment, &MigrateOptions { from: dir, key, dry_run }, json).await
            }
            Self::Doctor { podman, program } => {
                diagnose(environment, podman, &program).await;
                Ok(())
            }
            Self::Creds => {
                let config = &environment.paths.config;
                let served = credential::serve(tokio::io::stdin(), tokio::io::stdout(), config);
                served.await.map_err(|error| {
                    CommandError::io(error.to_string(), "see `journalctl -u psid`")
                })
            }
            Self::Init {
                backend,
                seal_with,
                tpm2_pcrs,
                force,
                no_recovery_key,
                recovery_key_file: recovery_file,
                retry,
            } => {
                let recovery = !no_recovery_key;
                let options = InitOptions {
                    backend,
                    seal_with,
                    tpm2_pcrs,
                    force,
                    recovery,
                    recovery_file,
                    retry,
                };
                let done = init::run(environment, &options).await;
                print(&done.map_err(CommandError::of(Exit::BadInput))?);
                Ok(())
            }
            Self::Preflight { json, retry } => check_token(environment, json, retry).await,
        }
    }
}

async fn diagnose(environment: &Environment, podman: Option<PodmanVersion>, program: &str) {
    let mut findings = doctor::diagnose(environment).await;
    if let Some(podman) = podman {
        let commands = ["lookup", "store", "delete", "list"]
            .map(|verb| (verb.to_owned(), format!("exec {program} {verb}")));
        let places = environment::podman_config_places(podman);
        findings.extend(doctor::containers_conf::check(&places, &commands.into()));
    }
    print(&doctor::to_json(&findings));
}

async fn check_token(
    environment: &Environment,
    json: bool,
    retry: bool,
) -> Result<(), CommandError> {
    // libpcsclite reads this variable.
    let pcscd = environment::variable("PCSCLITE_CSOCK_NAME").unwrap_or(PCSCD.into());
    let report_step = |line: &str| {
        if !json {
            print(line);
        }
    };
    let report = preflight::run(environment, Path::new(&pcscd), retry, &report_step).await;
    if json {
        print(&report.to_json());
    }
    match report.failure() {
        None => Ok(()),
        Some((step, CommandError { exit, problem: Problem { what, remedy } })) => {
            let problem = Problem::new(format!("{step}: {what}"), remedy.as_str());
            Err(CommandError { exit: *exit, problem })
        }
    }
}

async fn migrate(
    environment: &Environment,
    options: &MigrateOptions,
    json: bool,
) -> Result<(), CommandError> {
    let config = Config::read(&environment.paths.config)?;
    let report = migrate::adopt(&config, environment, options).await?;
    print(&if json { report.to_json() } else { report.to_string() });
    match report.values {
        Some(Err(problem)) => Err(CommandError { exit: Exit::BadInput, problem }),
        _ => Ok(()),
    }
}

async fn run_daemon(
    environment: &Environment,
    missing_protections: &[String],
) -> Result<(), CommandError> {
    for protection in missing_protections {
        tracing::warn!("{protection}");
    }
    let config = match Config::read(&environment.paths.config) {
        Ok(config) => config,
        Err(error) => return Err(broken_config::report(error).await),
    };
    let listener =
        listener::listen(&environment.paths.socket).map_err(CommandError::of(Exit::Io))?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone()).map_err(|error| {
        CommandError::io(format!("SIGTERM cannot be handled: {error}"), "report it")
    })?;
    serve(config, environment, listener, stop).await.map_err(CommandError::of(Exit::Io))
}

/// Cancels `stop` at SIGTERM or SIGINT.
fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

fn print(text: &str) {
    // A closed stdout has no reader to report the error to.
    let _ = std::io::stdout().write_all(for_own_scope(text).as_bytes());
}

fn print_error(message: &str) {
    let line = format!("{}\n", for_own_scope(message).replace('\n', " "));
    let _ = std::io::stderr().write_all(line.as_bytes());
}
