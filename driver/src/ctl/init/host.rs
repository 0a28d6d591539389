//! What is there already: read once, before anything is asked or changed.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use psi_common::{Exit, Paths, Scope, SecretBytes};
use psi_proto::v1::{StatusResponse, Tristate};

use super::service::Manager;
use super::settings;
use crate::client::{Client, Deadline};
use crate::ctl::podman::{self, Commands};
use crate::ctl::seal::{self, SystemdCreds};
use crate::error::CliError;

/// The host as it is.
pub(super) struct Host {
    pub(super) creds: SystemdCreds,
    pub(super) manager: Option<Manager>,
    pub(super) config: ConfigFile,
    pub(super) commands: Commands,
    pub(super) found: Found,
}

/// The facts that the plan follows.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The sealed key of the tpm backend.
    pub(super) has_key: bool,
    /// `cache.enc`, in which the hsm backend keeps its key.
    pub(super) has_cache: bool,
    /// Whether psid's unit runs.
    pub(super) is_active: bool,
    /// Whether its units start at boot.
    pub(super) is_enabled: bool,
    /// Whether podman's drop-in is the one that `psictl install` writes.
    pub(super) has_drop_in: bool,
    /// psid's own report; `None`: it does not answer.
    pub(super) status: Option<StatusResponse>,
}

/// The config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConfigFile {
    Missing,
    /// The packaged one, in which nothing was set.
    Template,
    /// An admin's.
    Written(String),
}

impl Host {
    pub(super) fn look(
        paths: &Paths,
        scope: Scope,
        program: Option<&Path>,
    ) -> Result<Self, CliError> {
        let commands = Commands::of(program, paths)?;
        let creds = SystemdCreds::of_this_process()?;
        if scope != Scope::System && !nix::unistd::geteuid().is_root() && !creds.seals_for_users() {
            return Err(creds.no_user_scope());
        }
        let manager = Manager::of(scope);
        if let Some(manager) = manager {
            manager.has_session(scope)?;
        }
        podman::about().map_err(|failure| {
            let doing = "psi serves podman, and podman does not answer";
            failure.while_doing(doing).with_exit(Exit::BadInput)
        })?;
        let drop_in = fs::read_to_string(&paths.podman_drop_in);
        let found = Found {
            has_key: paths.sealed_key().exists(),
            has_cache: paths.cache_file().exists(),
            is_active: manager.is_some_and(Manager::is_active),
            is_enabled: manager.is_some_and(Manager::is_enabled),
            has_drop_in: drop_in.is_ok_and(|text| text == commands.drop_in()),
            status: ask_psid(paths, manager),
        };
        Ok(Self { creds, manager, config: ConfigFile::read(&paths.config)?, commands, found })
    }

    /// A sealed credential that is there and opens.
    pub(super) fn sealed(&self, paths: &Paths, name: &str) -> Option<SecretBytes> {
        let sealed = fs::read(seal::path(paths, name)).ok()?;
        self.creds.open(name, &SecretBytes::new(sealed)).ok()
    }
}

/// Asks psid, if it runs: a question to its socket would start it, and a running psid has the state for itself.
fn ask_psid(paths: &Paths, manager: Option<Manager>) -> Option<StatusResponse> {
    if manager.is_some_and(|manager| !manager.is_active()) {
        return None;
    }
    Client::new(paths, Deadline::Probe).status(false).ok()
}

impl ConfigFile {
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        match fs::read_to_string(path) {
            Ok(text) if settings::is_template(&text) => Ok(Self::Template),
            Ok(text) => Ok(Self::Written(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::Missing),
            Err(cause) => {
                let doing = format!("reading {}", path.display());
                Err(CliError::io(&doing, &cause, "run it as root, or as the owner of that config"))
            }
        }
    }
}

impl Found {
    /// Whether the running psid has a key backend of this name, and reached its providers if it is to have some.
    pub(super) fn serves(&self, backend: Option<&str>, has_provider: bool) -> bool {
        self.status.as_ref().is_some_and(|status| {
            let up = |up| up == Tristate::Yes;
            status.backend == backend.unwrap_or_default()
                && status.degraded.is_empty()
                && has_provider != status.providers.is_empty()
                && (!has_provider || status.providers.iter().any(|provider| up(provider.up())))
        })
    }

    /// Whether the last refresh of the running psid fetched every source.
    pub(super) fn is_refreshed(&self) -> bool {
        let last = self.status.as_ref().and_then(|status| status.last_refresh.as_ref());
        last.is_some_and(|last| last.failed.is_empty())
    }
}
