//! The steps of a plan, one by one. The first failure ends it; what was done stays, and is skipped the next time.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use psi_common::{Exit, Finding, Severity};
use psi_proto::v1::StatusResponse;
use tempfile::NamedTempFile;

use super::goal::Goal;
use super::own_child::psictl;
use super::plan::{InitStep, StepKind};
use super::recovery::RecoveryPlace;
use super::report::{Report, StepState};
use super::{Session, next, service};
use crate::client::{Client, Deadline, wait};
use crate::ctl::args::Backend;
use crate::ctl::install::Installer;
use crate::ctl::seal;
use crate::error::CliError;

/// How long psid may take to answer after systemd started it: a TPM takes seconds.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long a person may take to start psid where systemd does not run.
const BY_HAND_LIMIT: Duration = Duration::from_secs(60);
/// How long a script may take, that started psid in the background.
const BY_SCRIPT_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the steps after the login, and prints the status and the next commands.
pub(super) fn run(
    session: &Session<'_>,
    goal: &Goal,
    steps: &[InitStep],
    report: &mut Report,
) -> Result<(), CliError> {
    for (at, one) in steps.iter().enumerate() {
        if one.kind == StepKind::LogIn {
            continue;
        }
        if let Err(failure) = step(session, goal, (at + 1, steps.len(), one), report) {
            report.failed()?;
            return Err(failure);
        }
    }
    report.json()?;
    let status = psictl(&["status"])?;
    report.text(&format!("\n{}", status.stdout))?;
    report.text(&next::commands(session, goal))?;
    match status.exit {
        Exit::Ok => Ok(()),
        exit => Err(CliError::status_only(exit)),
    }
}

/// Does one step, unless it is done.
pub(super) fn step(
    session: &Session<'_>,
    goal: &Goal,
    (number, total, step): (usize, usize, &InitStep),
    report: &mut Report,
) -> Result<(), CliError> {
    report.begins(number, total, step)?;
    if let Some(why) = &step.done {
        return report.ended(step, StepState::Skipped, why);
    }
    match execute(session, goal, step, report) {
        Ok(lines) => report.ended(step, StepState::Done, &lines),
        Err((failure, lines)) => {
            report.ended(step, StepState::Failed, &lines)?;
            Err(failure.while_doing(&format!("step {number} of {total}")))
        }
    }
}

/// What a step printed, or why it failed and what was printed until then.
type Outcome = Result<String, (CliError, String)>;

fn execute(session: &Session<'_>, goal: &Goal, step: &InitStep, report: &Report) -> Outcome {
    let plain =
        |result: Result<String, CliError>| result.map_err(|failure| (failure, String::new()));
    match &step.kind {
        StepKind::LogIn => log_in(session, goal),
        StepKind::Seal(name) => plain(seal_credential(session, goal, name)),
        StepKind::WriteConfig => plain(write_config(session, goal)),
        StepKind::Open => plain(open(session, goal)),
        StepKind::MakeKey => plain(make_key(session, goal)),
        StepKind::Start => plain(start(session, goal, report)),
        StepKind::Install => plain(installer(session).and_then(|installer| {
            installer.check_store()?;
            installer.write()
        })),
        StepKind::Prove => plain(installer(session).and_then(|installer| installer.prove())),
        StepKind::Refresh => of_psictl(session, &["cache", "refresh"], false),
        StepKind::Register => of_psictl(session, &["setup"], true),
        StepKind::StartWorkloads => plain(session.start_workloads(&goal.settings)),
    }
}

fn log_in(session: &Session<'_>, goal: &Goal) -> Outcome {
    let candidate = goal.choices.is_some().then_some(goal.text.as_str());
    let retry = session.options.retry;
    let secrets = goal.login_secrets();
    if secrets.is_empty() {
        // psid opens its credentials by this socket. Without it, psid's own message says so.
        let _ = start_creds_socket(session);
    }
    let checked = session.psid.check_online(candidate, &secrets, retry);
    let checked = checked.map_err(|failure| (failure, String::new()))?;
    let failed = |exit, remedy: &str| {
        let failure = match remedy {
            "" => of_psid(session, exit, &checked.error),
            remedy => CliError::new(exit, checked.error.as_str(), remedy),
        };
        Err((failure, checked.stdout.clone()))
    };
    match checked.exit {
        // What was left out is listed.
        Exit::Ok | Exit::Drift => Ok(checked.stdout),
        Exit::TryLater => {
            failed(Exit::TryLater, "nothing was written: run `psictl init` again when it answers")
        }
        exit => failed(exit, ""),
    }
}

/// psid's error; one that names a line of the config, and no more, gets the command that follows the correction.
fn of_psid(session: &Session<'_>, exit: Exit, error: &str) -> CliError {
    let line = format!("{}:", session.paths.config.display());
    if error.starts_with(&line) && !error.contains("; ") {
        return CliError::new(exit, error, "correct that line, then run `psictl init` again");
    }
    CliError::without_remedy(exit, error)
}

fn seal_credential(session: &Session<'_>, goal: &Goal, name: &str) -> Result<String, CliError> {
    let Some(secret) = goal.secrets.get(name) else {
        let what = format!("no secret was given for {name}");
        return Err(CliError::new(Exit::BadInput, what, format!("`psictl seal {name}`")));
    };
    let (sealed, flags) = seal::seal(&session.host.creds, name, secret, &goal.wish)?;
    make_config_directory(session)?;
    let path = seal::path(session.paths, name);
    seal::write(&path, &sealed)?;
    Ok(format!("sealed {flags} in {}\n{}", path.display(), note(goal)))
}

/// What the TPM lacks although it seals.
fn note(goal: &Goal) -> &str {
    goal.tpm_note.as_deref().unwrap_or_default()
}

/// The directory of the config, as the package makes it.
fn make_config_directory(session: &Session<'_>) -> Result<(), CliError> {
    let Some(directory) = session.paths.config.parent() else { return Ok(()) };
    if directory.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory).and_then(|()| {
        let Some(user) = &session.psid.service else { return Ok(()) };
        // As contrib/tmpfiles.d/psi.conf has it.
        chown(directory, None, Some(user.gid))?;
        fs::set_permissions(directory, Permissions::from_mode(0o1770))
    });
    made.map_err(|cause| {
        let doing = format!("creating {}", directory.display());
        CliError::io(&doing, &cause, "run it as root, or as the owner of that directory")
    })
}

fn write_config(session: &Session<'_>, goal: &Goal) -> Result<String, CliError> {
    make_config_directory(session)?;
    let path = &session.paths.config;
    replace_config(session, &goal.text).map_err(|cause| {
        let doing = format!("writing {}", path.display());
        CliError::io(&doing, &cause, "free space there, or run it as the owner of that directory")
    })?;
    Ok(format!("wrote {}", path.display()))
}

fn replace_config(session: &Session<'_>, text: &str) -> std::io::Result<()> {
    let path = &session.paths.config;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let file = NamedTempFile::new_in(directory)?;
    file.as_file().write_all(text.as_bytes())?;
    // Of whatever umask.
    let mode = match &session.psid.service {
        Some(user) => {
            chown(file.path(), Some(0), Some(user.gid))?;
            0o640
        }
        None => 0o600,
    };
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

/// The helper's socket, by which the system's psid opens credentials.
fn start_creds_socket(session: &Session<'_>) -> Result<(), CliError> {
    let (Some(manager), Some(_)) = (session.host.manager, &session.psid.service) else {
        return Ok(());
    };
    let started = manager.call(&["start", "psid-creds.socket"]);
    started.map(|_| ()).map_err(|why| {
        let what = format!("starting psid-creds.socket: {why}");
        CliError::new(Exit::Io, what, "see `systemctl status psid-creds.socket`")
    })
}

/// What psid meets as its own user: the config, and the credentials by its helper.
fn open(session: &Session<'_>, goal: &Goal) -> Result<String, CliError> {
    let checked = session.psid.run_as_service(&["check"])?;
    if checked.exit != Exit::Ok {
        return Err(of_psid(session, checked.exit, &checked.error));
    }
    start_creds_socket(session)?;
    let doctor = session.psid.run_as_service(&["doctor"])?;
    let findings: Vec<Finding> = serde_json::from_str(&doctor.stdout).map_err(|_| {
        CliError::new(
            Exit::Protocol,
            "psid doctor's report is not understood",
            "check that psid and psictl are of one version",
        )
    })?;
    let has_key = match goal.backend() {
        Some(Backend::Tpm) => session.host.found.has_key,
        _ => false,
    };
    let concerns = |finding: &&Finding| match finding.cause.as_str() {
        "config" | "config-refused" | "credential" | "credential-unreadable" => {
            finding.severity != Severity::Note
        }
        "key" => has_key && finding.severity == Severity::Error,
        _ => false,
    };
    match findings.iter().find(concerns) {
        Some(Finding { problem, .. }) => {
            Err(CliError::new(Exit::BadInput, problem.what.as_str(), problem.remedy.as_str()))
        }
        None => Ok("psid reads them".into()),
    }
}

fn make_key(session: &Session<'_>, goal: &Goal) -> Result<String, CliError> {
    let Some(backend) = goal.backend() else { return Ok(String::new()) };
    let stopped = stop_psid(session)?;
    let recovery = RecoveryPlace::prepare(&session.options.key, session.terminal.as_ref())?;
    let mut args = vec!["init".to_owned(), format!("--backend={}", backend.name())];
    args.extend(goal.key_args(session));
    args.extend(recovery.args());
    let made = session.psid.run(&args)?;
    if made.exit != Exit::Ok {
        recovery.discard();
        let error = made.error.strip_prefix("init: ").unwrap_or(&made.error).to_owned();
        return Err(CliError::without_remedy(made.exit, error));
    }
    let handed = recovery.hand_over()?;
    let mut lines: Vec<&str> = made.stdout.lines().filter(|line| is_of_the_key(line)).collect();
    lines.extend([handed.as_str(), stopped.as_str()].into_iter().filter(|line| !line.is_empty()));
    Ok(lines.join("\n"))
}

/// Of psid's report, what is not said by the steps that follow.
fn is_of_the_key(line: &str) -> bool {
    !line.is_empty()
        && !["next: ", "made no recovery key", "wrote the recovery key"]
            .iter()
            .any(|begin| line.starts_with(begin))
}

/// A psid that a lookup woke has the state for itself. Its socket stays: callers wait there.
fn stop_psid(session: &Session<'_>) -> Result<String, CliError> {
    let Some(manager) = session.host.manager.filter(|manager| manager.is_active()) else {
        return Ok(String::new());
    };
    manager.call(&["stop", "psid.service"]).map_err(|why| {
        CliError::new(Exit::Io, format!("stopping psid: {why}"), "see `systemctl status psid`")
    })?;
    Ok("psid was stopped for it, its socket was not".into())
}

fn start(session: &Session<'_>, goal: &Goal, report: &Report) -> Result<String, CliError> {
    let limit = match session.host.manager {
        Some(manager) => {
            start_units(session, manager)?;
            START_LIMIT
        }
        None if session.terminal.is_none() => BY_SCRIPT_LIMIT,
        None => {
            report.text("  waiting for psid, for at most a minute: start it now, `psid`\n")?;
            BY_HAND_LIMIT
        }
    };
    let deadline = Instant::now() + limit;
    loop {
        let why = match Client::new(session.paths, Deadline::Probe).status(false) {
            Ok(status) => match mismatch(&status, goal) {
                None => return Ok(format!("psid {} answers", status.version)),
                Some(why) => {
                    CliError::new(Exit::NoDaemon, why, "restart it, `systemctl restart psid`")
                }
            },
            Err(failure) => failure,
        };
        if Instant::now() >= deadline {
            return Err(not_started(session, why));
        }
        wait(POLL_INTERVAL);
    }
}

fn start_units(session: &Session<'_>, manager: service::Manager) -> Result<(), CliError> {
    let failed = |why: String| {
        if why.contains("masked") {
            let unmask = manager.command(&[&["unmask"], manager.units()].concat());
            let what = format!("starting psid: {why}");
            return CliError::new(
                Exit::BadInput,
                what,
                format!("`{unmask}`, then run `psictl init` again"),
            );
        }
        let text = manager.status_text().map_or_else(String::new, |text| format!(" ({text})"));
        let remedy = format!("see `{}`", manager.journal("psid"));
        CliError::new(Exit::NoDaemon, format!("starting psid: {why}{text}"), remedy)
    };
    let was_active = manager.is_active();
    manager.call(&[&["enable", "--now"], manager.units()].concat()).map_err(failed)?;
    if was_active || session.host.found.is_active {
        manager.call(&["restart", "psid.service"]).map_err(failed)?;
    }
    Ok(())
}

/// Why the psid that answers is not the one that was set up.
fn mismatch(status: &StatusResponse, goal: &Goal) -> Option<String> {
    let backend = goal.backend().map_or("", Backend::name);
    let has_provider = !status.providers.is_empty();
    if status.backend != backend
        || has_provider != goal.settings.text("providers.infisical.auth.method").is_some()
    {
        return Some("the psid that runs has another config".into());
    }
    None
}

fn not_started(session: &Session<'_>, why: CliError) -> CliError {
    if session.host.manager.is_some() {
        return why;
    }
    let what = format!("systemd does not run here, and no psid with this config does: {why}");
    CliError::new(Exit::NoDaemon, what, "start `psid`, then run `psictl init` again")
}

fn installer<'a>(session: &'a Session<'_>) -> Result<Installer<'a>, CliError> {
    Installer::lock(session.paths, &session.host.commands)
}

/// A step that is a command of psictl's own.
fn of_psictl(session: &Session<'_>, words: &[&str], takes_program: bool) -> Outcome {
    let program = session.options.program.as_ref().filter(|_| takes_program);
    let program = program.map(|path| format!("--program={}", path.display()));
    let mut args = words.to_vec();
    args.extend(program.as_deref());
    if session.options.retry && words == ["cache", "refresh"] {
        args.push("--retry");
    }
    let ended = psictl(&args).map_err(|failure| (failure, String::new()))?;
    match ended.exit {
        Exit::Ok => Ok(ended.stdout),
        exit => Err((CliError::without_remedy(exit, ended.error), ended.stdout)),
    }
}
