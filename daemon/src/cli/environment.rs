//! Reads the environment of the process: variables, uid and systemd's directories.

use std::path::PathBuf;

use psi_common::{Paths, Scope, passwd, set_own_scope};

use crate::cli::doctor::containers_conf::{Places, PodmanVersion};
use crate::keys::credential::{self, Creds};
use crate::runtime::build::Environment;

/// The environment of this process. psid alone reads the variables of systemd's directories: psi-driver may inherit
/// those of another unit.
pub(super) fn of_this_process(config: Option<PathBuf>) -> Environment {
    // The system's psid runs as user psi, so that its uid does not show the scope.
    let system = Paths::new(Scope::System);
    let is_system = config.as_ref().is_some_and(|config| *config == system.config);
    let mut paths = if is_system { system } else { Paths::new(Scope::of_this_process()) };
    if let Some(config) = config {
        paths.config = config;
    }
    // systemd separates several directories with colons; psid's is the first.
    let directory =
        |name| variable(name).map(|list| PathBuf::from(list.split(':').next().unwrap_or_default()));
    if let (Some(state), None) = (directory("STATE_DIRECTORY"), variable("PSI_STATE_DIR")) {
        paths.state = state;
    }
    if let (Some(runtime), None) = (directory("RUNTIME_DIRECTORY"), variable("PSI_RUN_DIR")) {
        paths.run = runtime;
    }
    let creds = creds(&paths, is_system);
    set_own_scope(creds.is_user());
    Environment::new(paths, directory("CREDENTIALS_DIRECTORY"), creds)
}

/// How psid opens credentials: root runs systemd-creds; the system's psid, as user psi, calls the helper
/// psid-creds.socket; a user's psid runs systemd-creds with that user's credentials.
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
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The paths of podman's config, by podman's variables.
pub(super) fn podman_config_places(podman: PodmanVersion) -> Places {
    let path = |name| variable(name).map(PathBuf::from);
    let uid = match Scope::of_this_process() {
        Scope::System => 0,
        Scope::User { uid } => uid,
    };
    let home = || path("HOME").or_else(|| passwd::home_of(uid));
    let config = path("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")));
    Places {
        podman,
        uid,
        user: config.map(|config| config.join("containers")),
        only: path("CONTAINERS_CONF"),
        last: path("CONTAINERS_CONF_OVERRIDE"),
        root: "/".into(),
    }
}
