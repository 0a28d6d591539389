//! What an admin does next.

use std::path::Path;

use psi_common::{Scope, passwd};

use super::Session;
use super::goal::Goal;

/// The two next commands.
pub(super) fn commands(session: &Session<'_>, goal: &Goal) -> String {
    let workloads = goal.settings.below("workloads");
    let has_quadlet =
        |name: &&&str| session.paths.quadlets.join(format!("{name}.container")).exists();
    let started = session.units_to_start(&goal.settings);
    let waits = |name: &str| started.iter().all(|unit| unit.name != name || !unit.has_secrets);
    let first = match (session.host.manager, workloads.iter().find(has_quadlet)) {
        (Some(manager), Some(name)) => {
            manager.command(&[if waits(name) { "restart" } else { "status" }, name])
        }
        _ if !workloads.is_empty() => "podman secret ls    # each is for `podman run --secret NAME`, or Secret=NAME in a quadlet".into(),
        _ => {
            let project = goal.settings.below("providers.infisical.projects");
            let project = project.first().copied().unwrap_or("myproject");
            format!(
                "printf '{{\"provider\":\"infisical\",\"project\":\"{project}\",\"path\":\"/\",\"key\":\"KEY\"}}' | podman secret create NAME -"
            )
        }
    };
    format!("\nnext:\n  $ {first}\n  $ psictl doctor\n{}", linger(session.scope))
}

/// A user's psid ends with the user's last session, unless the user lingers.
fn linger(scope: Scope) -> String {
    let Scope::User { uid } = scope else { return String::new() };
    let Some(name) = passwd::name_of(uid) else { return String::new() };
    if Path::new("/var/lib/systemd/linger").join(&name).exists() {
        return String::new();
    }
    format!(
        "  $ loginctl enable-linger {name}    # psid runs without a session of yours, and after a reboot\n"
    )
}
