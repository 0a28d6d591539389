//! `on_change = "reload"` where a reload would change nothing.

use std::path::Path;

use psi_common::Problem;

use crate::config::Config;
use crate::provider::upstream::{ChangeAction, Workload};

/// The workloads that are to be reloaded and whose secrets come by podman: it reads them when it creates a container, so
/// only a restart renews them. What psi-render@.service delivers is rendered again.
pub(super) fn problems(config: &Config, quadlets: &Path) -> Vec<Problem> {
    let reloaded = config
        .workloads
        .iter()
        .filter(|(_, workload)| workload.on_change.action == ChangeAction::Reload);
    let problem = |(name, workload): (&String, &Workload)| {
        let remedy = format!("put on_change = \"restart\" into [workloads.\"{name}\"]");
        let of_user = workload.user.as_ref().map(|user| {
            format!("workload {name} of user {user}: psi-render@.service, which a reload is for, is root's")
        });
        let quadlet = quadlets.join(format!("{name}.container"));
        let of_podman = || {
            quadlet.exists().then(|| {
                format!(
                    "workload {name}: a reload renews no secret of a container, and {} is one",
                    quadlet.display()
                )
            })
        };
        Some(Problem::new(of_user.or_else(of_podman)?, remedy))
    };
    reloaded.filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(on_change: &str) -> Config {
        let text = format!(
            "[providers.infisical.auth]\nmethod = \"universal-auth\"\nclient_id = \"c\"\n\
             client_secret_file = \"/s\"\n[providers.infisical.projects.p]\nid = \"i\"\nenvironment = \"e\"\n\
             [workloads.web]\nprovider = \"infisical\"\n{on_change}\nsecrets = [{{ project = \"p\" }}]\n"
        );
        Config::from_bytes(Ok(text.into_bytes()), Path::new("config.toml")).unwrap()
    }

    #[test]
    fn reload_is_refused_for_a_container_and_for_a_user() {
        let quadlets = tempfile::tempdir().unwrap();
        let reload = config("on_change = \"reload\"");
        assert!(problems(&reload, quadlets.path()).is_empty());
        std::fs::write(quadlets.path().join("web.container"), "").unwrap();
        let found = problems(&reload, quadlets.path())[0].to_string();
        assert!(
            found.starts_with("workload web: a reload renews no secret of a container"),
            "{found}"
        );
        assert!(found.ends_with("put on_change = \"restart\" into [workloads.\"web\"]"), "{found}");
        assert!(problems(&config("on_change = \"restart\""), quadlets.path()).is_empty());
        let of_user = config("user = \"anna\"\non_change = \"reload\"");
        assert_eq!(problems(&of_user, Path::new("/none")).len(), 1);
    }
}
