//! The steps of `psictl init`: what each does, whether it is done already, the plain command that does the same, and
//! what undoes it. Nothing here reads or changes the host, so that a dry run, a run and the tests have one plan.

use psi_common::Paths;

use super::config_text::CLIENT_SECRET;
use super::host::Found;
use super::service::Manager;
use crate::ctl::args::Backend;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InitStep {
    pub(super) kind: StepKind,
    /// What it does.
    pub(super) title: String,
    /// The plain command that does the same.
    pub(super) command: String,
    /// Why it is not needed; `None`: it is to be done.
    pub(super) done: Option<String>,
    /// What undoes it; `None`: it changes nothing, or what it changes needs no undoing.
    pub(super) undo: Option<String>,
}

/// What a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StepKind {
    LogIn,
    Seal(String),
    WriteConfig,
    Open,
    MakeKey,
    Start,
    Install,
    Prove,
    Refresh,
    Register,
    StartWorkloads,
}

/// What is to be there at the end, and what of it is there.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    pub(super) paths: &'a Paths,
    pub(super) found: &'a Found,
    pub(super) manager: Option<Manager>,
    /// psid's user, if psid has one of its own.
    pub(super) user: Option<&'a str>,
    /// The server and the login, for people; `None` without a provider.
    pub(super) login: Option<String>,
    /// The credentials of the config.
    pub(super) credentials: Vec<Credential>,
    /// Whether the config is to be written, and whether the packaged one lies there.
    pub(super) config: ConfigState,
    pub(super) backend: Option<Backend>,
    /// The flags of `psictl cache init` besides the backend.
    pub(super) key_flags: String,
    /// The flags of `psictl seal`.
    pub(super) seal_flags: String,
    /// What the credentials are sealed to, for people.
    pub(super) sealed_to: String,
    /// What the key is sealed to, for people.
    pub(super) key_sealed_to: String,
    /// `--program PATH` for `psictl install` and `setup`, if it is not the usual one.
    pub(super) program_flags: String,
    pub(super) workloads: Vec<String>,
    /// The units of workloads that are to be started.
    pub(super) units: Vec<WorkloadUnit>,
}

/// The unit of a workload whose quadlet is there.
#[derive(Clone, Debug)]
pub(super) struct WorkloadUnit {
    pub(super) name: String,
    /// Whether it was started after its secrets were registered.
    pub(super) has_secrets: bool,
}

/// A credential that the config names.
#[derive(Clone, Debug)]
pub(super) struct Credential {
    pub(super) name: String,
    /// Whether it is sealed already, with the secret that was given if one was.
    pub(super) is_sealed: bool,
}

/// The config file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfigState {
    /// It stays as it is.
    Kept,
    /// It is made.
    Missing,
    /// It replaces the packaged one.
    Template,
}

/// The steps, in the order in which they are done.
pub(super) fn plan(target: &Target<'_>) -> Vec<InitStep> {
    let mut steps = Vec::new();
    steps.extend(target.log_in());
    steps.extend(target.credentials.iter().map(|credential| target.seal(credential)));
    steps.push(target.write_config());
    steps.push(target.open());
    steps.extend(target.backend.map(|backend| target.make_key(backend)));
    steps.push(target.start());
    steps.push(target.install());
    steps.push(target.prove());
    if target.login.is_some() {
        steps.push(target.refresh());
    }
    if !target.workloads.is_empty() {
        steps.push(target.register());
    }
    steps.extend(target.start_workloads());
    steps
}

impl Target<'_> {
    /// Whether the running psid has this config, its key and its credentials.
    fn is_served(&self) -> bool {
        self.config == ConfigState::Kept
            && self.credentials.iter().all(|credential| credential.is_sealed)
            && self.found.serves(self.backend.map(Backend::name), self.login.is_some())
    }

    fn log_in(&self) -> Option<InitStep> {
        let login = self.login.as_ref()?;
        Some(InitStep {
            kind: StepKind::LogIn,
            title: format!("log in to {login}; nothing is written before"),
            command: "psid check --online".into(),
            done: self.is_served().then(|| "psid is logged in".into()),
            undo: None,
        })
    }

    fn seal(&self, Credential { name, is_sealed }: &Credential) -> InitStep {
        let path = self.paths.config.with_file_name(format!("{name}.cred"));
        let what = if name == CLIENT_SECRET { "the client secret" } else { name };
        InitStep {
            kind: StepKind::Seal(name.clone()),
            title: format!("seal {what} {}", self.sealed_to).trim_end().to_owned(),
            command: format!("psictl seal {name}{}", self.seal_flags),
            done: is_sealed.then(|| format!("{} has it", path.display())),
            undo: Some(format!("rm {}", path.display())),
        }
    }

    fn write_config(&self) -> InitStep {
        let path = self.paths.config.display();
        let (owner, mode) = match self.user {
            Some(user) => (format!(" -o root -g {user}"), "0640"),
            None => (String::new(), "0600"),
        };
        InitStep {
            kind: StepKind::WriteConfig,
            title: format!("write {path}, mode {mode}"),
            command: format!("install -m {mode}{owner} config.toml {path}"),
            done: (self.config == ConfigState::Kept).then(|| "it is as it should be".into()),
            undo: Some(match self.config {
                ConfigState::Template => format!("cp /usr/share/psi/psi.toml {path}"),
                ConfigState::Kept | ConfigState::Missing => format!("rm {path}"),
            }),
        }
    }

    fn open(&self) -> InitStep {
        let path = self.paths.config.display();
        let doctor = format!("psid --config {path} doctor");
        let (who, command) = match self.user {
            Some(user) => (format!(" as user {user}"), format!("runuser -u {user} -- {doctor}")),
            None => (String::new(), doctor),
        };
        InitStep {
            kind: StepKind::Open,
            title: format!("check{who} that psid can read the config and open its credentials"),
            command,
            done: self.is_served().then(|| "psid runs with them".into()),
            undo: None,
        }
    }

    fn make_key(&self, backend: Backend) -> InitStep {
        let (cache, state) = (self.paths.cache_file(), self.paths.state.display());
        let (has_key, title, files) = match backend {
            Backend::Tpm => (
                self.found.has_key,
                format!(
                    "create the key of the cache, {}and create its recovery key",
                    self.sealing()
                ),
                format!("{} ", self.paths.sealed_key().display()),
            ),
            Backend::Hsm => (
                self.found.has_cache,
                "create the key of the cache, have the token wrap it, and create its recovery key"
                    .into(),
                String::new(),
            ),
        };
        let note = "there is one; if you do not have its recovery key, `psictl cache recovery-key` creates another";
        InitStep {
            kind: StepKind::MakeKey,
            title,
            command: format!("psictl cache init --backend {}{}", backend.name(), self.key_flags),
            done: has_key.then(|| note.into()),
            undo: Some(format!("rm {files}{} {state}/recovery.enc", cache.display())),
        }
    }

    /// Not known, and of no interest, where nothing is to be sealed.
    fn sealing(&self) -> String {
        match self.key_sealed_to.as_str() {
            "" => String::new(),
            sealed_to => format!("seal it {sealed_to}, "),
        }
    }

    fn start(&self) -> InitStep {
        let Some(manager) = self.manager else {
            return InitStep {
                kind: StepKind::Start,
                title: "wait for psid: systemd does not run here, so psid must be started by hand"
                    .into(),
                command: "psid".into(),
                done: self.is_served().then(|| "it runs".into()),
                undo: None,
            };
        };
        let enable = manager.command(&[&["enable", "--now"], manager.units()].concat());
        let units = manager.units().iter().rev().copied().collect::<Vec<_>>();
        let is_right = self.is_served() && self.found.is_active && self.found.is_enabled;
        let command = match self.found.is_active {
            true => format!("{enable} && {}", manager.command(&["restart", "psid.service"])),
            false => enable,
        };
        let at_boot = manager.command(&[&["disable", "--now"], units.as_slice()].concat());
        InitStep {
            kind: StepKind::Start,
            title: "start psid, now and at each boot".into(),
            command,
            done: is_right.then(|| "it runs with this config".into()),
            undo: (!self.found.is_enabled).then_some(at_boot),
        }
    }

    fn install(&self) -> InitStep {
        let path = self.paths.podman_drop_in.display();
        InitStep {
            kind: StepKind::Install,
            title: "make psi podman's driver for new secrets".into(),
            command: format!("psictl install{}", self.program_flags),
            done: self.found.has_drop_in.then(|| format!("{path} is there")),
            undo: Some(format!("rm {path}")),
        }
    }

    fn prove(&self) -> InitStep {
        InitStep {
            kind: StepKind::Prove,
            title: "prove it: podman creates a secret through psi, reads it back and removes it"
                .into(),
            command: format!("psictl install{}", self.program_flags),
            done: None,
            undo: None,
        }
    }

    fn refresh(&self) -> InitStep {
        InitStep {
            kind: StepKind::Refresh,
            title: "fetch the secrets into the cache".into(),
            command: "psictl cache refresh".into(),
            done: (self.is_served() && self.found.is_refreshed())
                .then(|| "the last refresh fetched every source".into()),
            undo: None,
        }
    }

    fn register(&self) -> InitStep {
        InitStep {
            kind: StepKind::Register,
            title: format!("register the secrets of {} in podman", self.workloads.join(", ")),
            command: format!("psictl setup{}", self.program_flags),
            done: None,
            undo: None,
        }
    }

    fn start_workloads(&self) -> Option<InitStep> {
        let manager = self.manager.filter(|_| !self.units.is_empty())?;
        let names: Vec<&str> = self.units.iter().map(|unit| unit.name.as_str()).collect();
        let all_have = self.units.iter().all(|unit| unit.has_secrets);
        Some(InitStep {
            kind: StepKind::StartWorkloads,
            title: format!("start {}", names.join(", ")),
            command: manager.command(&[&["restart"], names.as_slice()].concat()),
            done: (all_have && self.is_served()).then(|| "started since the registration".into()),
            undo: None,
        })
    }
}

#[cfg(test)]
mod tests;
