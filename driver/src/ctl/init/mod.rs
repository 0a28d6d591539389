//! `psictl init`: from an installed package to secrets that podman's containers can have.
//!
//! In reading order: `host` (what is there), `gather` (flags and answers: `ask_login`, `choices`, `login`, `secrets`), `goal` (what is to be there),
//! `plan` (the steps, without a change), `run` (the steps, one by one), `report`.

mod ask_login;
mod checks;
mod choices;
mod config_text;
mod flags;
mod gather;
mod goal;
mod host;
mod login;
mod next;
mod own_child;
mod plan;
mod psid_child;
mod recovery;
mod report;
mod run;
mod secrets;
mod service;
mod settings;
mod terminal;
mod workload_units;

use psi_common::{Exit, Paths, Scope};

use crate::ctl::args::SetUpHostOptions;
use crate::error::CliError;
use choices::Choices;
use goal::Goal;
use host::{ConfigFile, Host};
use plan::{InitStep, StepKind, plan};
use psid_child::PsidChild;
use report::{Report, StepState};
use terminal::Terminal;

/// One `psictl init`.
struct Session<'a> {
    paths: &'a Paths,
    options: &'a SetUpHostOptions,
    scope: Scope,
    host: Host,
    psid: PsidChild<'a>,
    terminal: Option<Terminal>,
}

pub(crate) fn run(paths: &Paths, options: &SetUpHostOptions) -> Result<(), CliError> {
    let terminal = Terminal::of_this_process().filter(|_| !options.json && !options.yes);
    if terminal.is_none() && !options.yes && !options.dry_run {
        let what = "there is no terminal to ask at";
        let remedy = "add --yes, and give each answer as a flag, see `psictl init --help`";
        return Err(CliError::new(Exit::Usage, what, remedy));
    }
    if paths.uses_systems_psid() {
        let note = "the system's psid serves the users that its config names, and a psid of this user takes its place; to \
                    use the system's, run `psictl install` and `psictl setup`";
        crate::ctl::note("init", note);
    }
    let scope = Scope::of_this_process();
    let session = Session {
        paths,
        options,
        scope,
        host: Host::look(paths, scope, options.program.as_deref())?,
        psid: PsidChild::of(paths),
        terminal,
    };
    session.has_service_user()?;
    session.has_systemd()?;
    session.run()
}

impl Session<'_> {
    fn run(&self) -> Result<(), CliError> {
        let mut report = Report::new(self.options.json);
        self.welcome();
        let mut previous: Option<Choices> = None;
        let (goal, steps) = loop {
            let goal = Goal::of(self, previous.take())?;
            let target = goal.target(self);
            let steps = plan(&target);
            if self.options.dry_run {
                return self.dry_run(&mut report, &goal, &steps);
            }
            self.has_place_for_recovery_key(&steps)?;
            match self.log_in(&mut report, &goal, &steps) {
                Ok(()) => break (goal, steps),
                // A person corrects the answers; everything else is for the next time.
                Err(failure) => match (&self.terminal, goal.choices.clone()) {
                    (Some(terminal), Some(choices)) if failure.exit() == Exit::BadInput => {
                        terminal.show(&format!("\n  {failure}\n"));
                        if !terminal.confirm("\nCorrect the answers?")? {
                            report.failed()?;
                            return Err(failure);
                        }
                        previous = Some(choices);
                    }
                    _ => {
                        report.failed()?;
                        return Err(failure);
                    }
                },
            }
        };
        if !self.agrees(&steps)? {
            return Err(CliError::new(
                Exit::Usage,
                "nothing was changed",
                "run it again when you like",
            ));
        }
        run::run(self, &goal, &steps, &mut report)
    }

    fn welcome(&self) {
        let Some(terminal) = &self.terminal else { return };
        let whose = match self.scope {
            Scope::System => {
                "the system's podman; a user's own rootless podman is set up as that user"
            }
            Scope::User { .. } => "your own rootless podman; the system's is set up as root",
        };
        terminal.show(&format!("This sets psi up for {whose}.\n"));
        if let ConfigFile::Written(_) = self.host.config {
            terminal
                .show(&format!("The config is there already: {}\n", self.paths.config.display()));
        }
    }

    /// psid's user must be there before anything is given to it.
    fn has_service_user(&self) -> Result<(), CliError> {
        let is_system = self.paths.config == std::path::Path::new("/etc/psi/config.toml");
        if !is_system || self.scope != Scope::System || self.psid.service.is_some() {
            return Ok(());
        }
        Err(CliError::new(
            Exit::BadInput,
            "the user psi, as which psid runs, does not exist",
            "install the package psid, or `systemd-sysusers psi.conf && systemd-tmpfiles --create psi.conf`",
        ))
    }

    /// The system's psid, and the helper that opens its credentials, are units of systemd.
    fn has_systemd(&self) -> Result<(), CliError> {
        if self.host.manager.is_some() || self.psid.service.is_none() {
            return Ok(());
        }
        Err(CliError::new(
            Exit::BadInput,
            "systemd does not run here, as in a container or a chroot, and psid and its helper are units of systemd",
            "run `psictl init` on the host itself, or in a container that boots systemd (podman run --systemd=always)",
        ))
    }

    /// A recovery key without a place is refused before anything is done.
    fn has_place_for_recovery_key(&self, steps: &[InitStep]) -> Result<(), CliError> {
        let key = &self.options.key;
        let creates =
            steps.iter().any(|step| step.kind == StepKind::MakeKey && step.done.is_none());
        let has_place =
            self.terminal.is_some() || key.no_recovery_key || key.recovery_key_file.is_some();
        match (creates, has_place, &key.recovery_key_file) {
            (true, false, _) => Err(recovery::no_place()),
            (true, _, Some(file)) if file.exists() => Err(CliError::new(
                Exit::BadInput,
                format!("{} exists already", file.display()),
                "name a new file: it may hold another recovery key",
            )),
            _ => Ok(()),
        }
    }

    /// Does the steps that write nothing: the login.
    fn log_in(&self, report: &mut Report, goal: &Goal, steps: &[InitStep]) -> Result<(), CliError> {
        for (at, step) in steps.iter().enumerate() {
            if step.kind == StepKind::LogIn {
                run::step(self, goal, (at + 1, steps.len(), step), report)?;
            }
        }
        Ok(())
    }

    /// Asks whether to go on, if something is to be written.
    fn agrees(&self, steps: &[InitStep]) -> Result<bool, CliError> {
        let Some(terminal) = &self.terminal else { return Ok(true) };
        let todo: Vec<&InitStep> = steps
            .iter()
            .filter(|step| step.done.is_none() && step.kind != StepKind::LogIn)
            .collect();
        if !todo.iter().any(|step| step.undo.is_some()) {
            return Ok(true);
        }
        let lines: String = todo.iter().map(|step| format!("  - {}\n", step.title)).collect();
        terminal.show(&format!("\nThe next steps:\n{lines}"));
        terminal.confirm("Continue?")
    }

    fn dry_run(
        &self,
        report: &mut Report,
        goal: &Goal,
        steps: &[InitStep],
    ) -> Result<(), CliError> {
        for (at, step) in steps.iter().enumerate() {
            report.begins(at + 1, steps.len(), step)?;
            match &step.done {
                Some(why) => report.ended(step, StepState::Skipped, why)?,
                None => report.ended(step, StepState::Planned, "")?,
            }
            if step.kind == StepKind::WriteConfig && step.done.is_none() {
                report.text(&report::indented(&goal.text))?;
            }
        }
        report.text("\nnothing was changed (--dry-run)\n")?;
        report.json()
    }
}
