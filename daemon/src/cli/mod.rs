//! psid's command line, environment and signals.

pub mod doctor;
pub mod init;
mod migrate;
pub mod preflight;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use psi_common::{Exit, Paths, Scope, SealMode, for_own_scope, set_own_scope};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::doctor::containers_conf::{Places, Version};
use crate::config::Config;
use crate::keys::credential::{self, Creds};
use crate::runtime::build::Environment;
use crate::runtime::{listener, serve::serve};
use crate::sys::logging::{self, Format, Verbosity};
use crate::sys::{hardening, malloc};

/// Where pcscd listens, unless its own variable says otherwise.
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
    /// Check the config, name the line at fault, and exit
    Check,
    /// Take over what another program left, while psid is stopped (`psictl migrate --from psi --state` runs this)
    Migrate {
        /// The program: the Python PSI
        #[arg(long, value_parser = ["psi"])]
        from: String,
        /// Its state folder, or a cache file of it; nothing there is changed
        dir: PathBuf,
        /// The key of its tpm backend: 32 bytes, or sealed by systemd-creds as psi-cache-key (default: our own)
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Tell what would be taken over, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Report what is wrong on this host, as JSON (`psictl doctor` runs this)
    Doctor {
        /// Podman's version
        #[arg(long)]
        podman: Option<Version>,
        /// Where podman's commands find psi-driver
        #[arg(long, default_value = "/usr/bin/psi-driver")]
        program: String,
    },
    /// Open or seal one credential that stdin names (psid-creds.socket runs this)
    Creds,
    /// Make and seal a key, and write an empty cache (`psictl cache init` runs this)
    Init {
        /// Where the key lives (default: as backend in the config)
        #[arg(long, value_parser = ["tpm", "hsm"])]
        backend: Option<String>,
        /// What systemd-creds seals the key to; where it is less than the config demands, the config is changed
        /// (default: as seal_with in the config)
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
        /// Try the token's PIN once, though it was refused
        #[arg(long)]
        retry: bool,
    },
    /// Check all that psid needs of the token, step by step (`psictl hsm preflight` runs this)
    Preflight {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Try the PIN once, though it was refused
        #[arg(long)]
        retry: bool,
    },
}

/// The command line as clap has it: for man pages and completions.
pub fn command_line() -> clap::Command {
    CommandLine::command()
}

/// Runs psid; its last words are one line on stderr and a code of [`Exit`].
pub fn run() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    let refused = hardening::harden();
    malloc::keep_no_large_block();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return complain(
                    Exit::Io,
                    &format!("psid: starting: {error}; check the limits on threads"),
                );
            }
        };
    let surroundings = surroundings(line.config);
    let result = match line.command {
        None => {
            runtime.block_on(run_daemon(line.log_format, line.log_level, &surroundings, &refused))
        }
        Some(Command::Check) => check(&surroundings),
        Some(Command::Migrate { from: _, dir, key, dry_run, json }) => {
            let options = migrate::Options { from: dir, key, dry_run };
            return match runtime.block_on(take_over(&surroundings, &options, json)) {
                Ok(()) => Exit::Ok.into(),
                Err((exit, words)) => complain(exit, &format!("psid: migrate: {words}")),
            };
        }
        Some(Command::Doctor { podman, program }) => {
            let mut findings = runtime.block_on(doctor::diagnose(&surroundings));
            if let Some(podman) = podman {
                let commands = ["lookup", "store", "delete", "list"]
                    .map(|verb| (verb.to_owned(), format!("exec {program} {verb}")));
                let places = podman_s_places(podman);
                findings.extend(doctor::containers_conf::judge(&places, &commands.into()));
            }
            say(&doctor::to_json(&findings));
            Ok(())
        }
        Some(Command::Creds) => {
            let config = &surroundings.paths.config;
            let serving = credential::serve(tokio::io::stdin(), tokio::io::stdout(), config);
            runtime
                .block_on(serving)
                .map_err(|error| (Exit::Io, format!("creds: {error}; see psid's own log")))
        }
        Some(Command::Init { backend, seal_with, tpm2_pcrs, force, no_recovery_key, retry }) => {
            let options = init::Options {
                backend,
                seal_with,
                tpm2_pcrs,
                force,
                recovery: !no_recovery_key,
                retry,
            };
            match runtime.block_on(init::run(&surroundings, &options)) {
                Ok(done) => say(&done),
                Err(error) => return complain(Exit::BadInput, &format!("psid: init: {error}")),
            }
            Ok(())
        }
        Some(Command::Preflight { json, retry }) => {
            // Where libpcsclite looks.
            let pcscd = variable("PCSCLITE_CSOCK_NAME").unwrap_or(PCSCD.into());
            let tell = |line: &str| {
                if !json {
                    say(line);
                }
            };
            let walk = preflight::run(&surroundings, Path::new(&pcscd), retry, &tell);
            let report = runtime.block_on(walk);
            if json {
                say(&report.to_json());
            }
            return match report.fault() {
                None => Exit::Ok.into(),
                Some((step, fault)) => {
                    complain(fault.exit, &format!("psid: preflight: {step}: {fault}"))
                }
            };
        }
    };
    match result {
        Ok(()) => Exit::Ok.into(),
        Err((exit, words)) => complain(exit, &format!("psid: {words}")),
    }
}

fn check(surroundings: &Environment) -> Result<(), (Exit, String)> {
    let path = &surroundings.paths.config;
    let config = Config::read(path).map_err(|error| (Exit::BadInput, error.to_string()))?;
    let mut words: String =
        config.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    words += &format!("{} is good\n", path.display());
    say(&words);
    Ok(())
}

/// Where podman looks for its config, by its own variables.
fn podman_s_places(podman: Version) -> Places {
    let path = |name| variable(name).map(PathBuf::from);
    let home = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    let uid = match Scope::of_this_process() {
        Scope::System => 0,
        Scope::User { uid } => uid,
    };
    // Before version 5, root had no config of its own.
    let has_own = podman >= Version(5, 0, 0) || uid != 0;
    Places {
        podman,
        uid,
        user: home.filter(|_| has_own).map(|home| home.join("containers")),
        only: path("CONTAINERS_CONF"),
        last: path("CONTAINERS_CONF_OVERRIDE"),
        root: "/".into(),
    }
}

async fn take_over(
    surroundings: &Environment,
    options: &migrate::Options,
    json: bool,
) -> Result<(), (Exit, String)> {
    let config = Config::read(&surroundings.paths.config)
        .map_err(|error| (Exit::BadInput, format!("{error}; `psid check` checks it")))?;
    let report = migrate::adopt(&config, surroundings, options).await?;
    say(&if json { report.to_json() } else { report.to_string() });
    match report.values {
        Some(Err(why)) => Err((Exit::BadInput, why)),
        _ => Ok(()),
    }
}

async fn run_daemon(
    format: Format,
    verbosity: Verbosity,
    surroundings: &Environment,
    refused: &[String],
) -> Result<(), (Exit, String)> {
    logging::start(format, verbosity, variable("JOURNAL_STREAM").as_deref());
    for protection in refused {
        tracing::warn!("{protection}");
    }
    let config = Config::read(&surroundings.paths.config)
        .map_err(|error| (Exit::BadInput, format!("{error}; `psid check` checks it")))?;
    let listener =
        listener::listen(&surroundings.paths.socket, &config.access).map_err(|error| {
            (Exit::Io, format!("the socket: {error}; stop what uses it, or set PSI_SOCKET"))
        })?;
    let stop = CancellationToken::new();
    on_signal(stop.clone()).map_err(|error| (Exit::Io, format!("signals: {error}; report it")))?;
    serve(config, surroundings, listener, stop).await.map_err(|error| (Exit::Io, error))
}

/// SIGTERM and SIGINT stop the daemon.
fn on_signal(stop: CancellationToken) -> std::io::Result<()> {
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

/// The folders that systemd sets for a unit are honoured here and by the daemon alone: podman's
/// driver may inherit those of another unit.
fn surroundings(config: Option<PathBuf>) -> Environment {
    // The system's psid is a user of its own, and no person's.
    let system = Paths::new(Scope::System);
    let is_system = config.as_ref().is_some_and(|config| *config == system.config);
    let mut paths = if is_system { system } else { Paths::new(Scope::of_this_process()) };
    if let Some(config) = config {
        paths.config = config;
    }
    // systemd lists several folders with colons; ours is the first.
    let folder =
        |name| variable(name).map(|list| PathBuf::from(list.split(':').next().unwrap_or_default()));
    if let (Some(state), None) = (folder("STATE_DIRECTORY"), variable("PSI_STATE_DIR")) {
        paths.state = state;
    }
    if let (Some(runtime), None) = (folder("RUNTIME_DIRECTORY"), variable("PSI_RUN_DIR")) {
        paths.run = runtime;
    }
    let creds = creds(&paths, is_system);
    set_own_scope(creds.is_user());
    Environment::new(paths, folder("CREDENTIALS_DIRECTORY"), creds)
}

/// Root runs systemd-creds itself; the system's psid as a user of its own has a helper; a person's psid
/// has credentials of that person's.
fn creds(paths: &Paths, is_system: bool) -> Creds {
    let helper = paths.socket.with_file_name("creds.sock");
    if nix::unistd::geteuid().is_root() {
        Creds::Child(credential::Scope::System)
    } else if is_system || helper.exists() {
        Creds::Helper(helper)
    } else {
        Creds::Child(credential::Scope::User)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads systemd's variables")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn say(words: &str) {
    // Nobody is left to be told that stdout is gone.
    let _ = std::io::stdout().write_all(for_own_scope(words).as_bytes());
}

fn complain(exit: Exit, words: &str) -> ExitCode {
    let line = format!("{}\n", for_own_scope(words).replace('\n', " "));
    let _ = std::io::stderr().write_all(line.as_bytes());
    exit.into()
}
