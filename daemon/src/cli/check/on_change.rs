//! `on_change = "reload"` where a reload would change nothing.

use std::path::{Path, PathBuf};

use psi_common::{Problem, passwd};

use crate::config::Config;
use crate::provider::upstream::{ChangeAction, Workload, WorkloadUser};

/// The workloads that are to be reloaded and whose secrets come by podman: it reads them when it creates a container, so
/// only a restart renews them. What psi-render@.service delivers is rendered again.
pub(super) fn problems(config: &Config, quadlets: &Path) -> Vec<Problem> {
    let reloaded = config
        .workloads
        .iter()
        .filter(|(_, workload)| workload.on_change.action == ChangeAction::Reload);
    let problem = |(name, workload): (&String, &Workload)| {
        let of_podman = quadlet(name, workload.user.as_ref(), quadlets);
        let why = match of_podman {
            Some(quadlet) => format!(
                "a reload renews no secret of a container, and {} is one",
                quadlet.display()
            ),
            None if workload.kube => {
                "a reload renews no secret of a pod, and kube = true is for `podman kube play`"
                    .into()
            }
            None => return None,
        };
        let remedy = format!("put on_change = \"restart\" into [workloads.\"{name}\"]");
        Some(Problem::new(format!("workload {name}: {why}"), remedy))
    };
    reloaded.filter_map(problem).collect()
}

/// The quadlet of a workload, in its user's directory.
fn quadlet(name: &str, user: Option<&WorkloadUser>, own: &Path) -> Option<PathBuf> {
    let directory = match user.map(ToString::to_string) {
        None => own.to_owned(),
        Some(user) => {
            passwd::users().ok()?.into_iter().find(|one| one.is_meant_by(&user))?.quadlets()
        }
    };
    let kinds = ["container", "kube"].map(|kind| directory.join(format!("{name}.{kind}")));
    kinds.into_iter().find(|path| path.exists())
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
    fn reload_is_refused_for_a_container_and_for_a_pod() {
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
        std::fs::rename(quadlets.path().join("web.container"), quadlets.path().join("web.kube"))
            .unwrap();
        assert!(problems(&reload, quadlets.path())[0].to_string().contains("/web.kube is one"));
        let none = Path::new("/none");
        let pod = problems(&config("kube = true\non_change = \"reload\""), none);
        assert!(pod[0].to_string().contains("renews no secret of a pod"));
        // psi-render@.service is a unit of users' managers too, whose quadlets are others.
        let of_user = config("user = \"nobody\"\non_change = \"reload\"");
        assert!(problems(&of_user, quadlets.path()).is_empty());
    }
}
