//! `psid doctor`: the findings about this host that need no running psid. `psictl doctor` runs it, and adds findings
//! about podman and the daemon.

pub mod containers_conf;
mod interrupted;
mod sealed;
mod socket;

use psi_common::{Finding, Paths};
use serde_json::json;

use crate::cli::check;
use crate::config::Config;
use crate::runtime::build::Environment;

/// The findings about the config, the files and the credentials.
pub async fn diagnose(environment: &Environment) -> Vec<Finding> {
    let paths = &environment.paths;
    if paths.uses_systems_psid() {
        return if paths.config.exists() { vec![own_psid_is_down(paths)] } else { Vec::new() };
    }
    let config = match Config::read(&environment.paths.config) {
        Ok(config) => config,
        Err(error) => {
            let remedy = "correct it, and run `psid check`";
            return vec![Finding::error(error.to_string(), remedy).of("config")];
        }
    };
    let checked = check::check_for_doctor(&config, environment).await;
    let warnings = checked.warnings.into_iter().map(|warning| {
        let is_of_config = config.warnings.contains(&warning);
        match is_of_config {
            true => Finding::warning(warning, "see psi.toml(5)").of("config-warning"),
            false => Finding::warning(warning, "").of("unit-outdated"),
        }
    });
    let problems = checked.problems.into_iter();
    let problems =
        problems.map(|problem| Finding::error(problem.what, problem.remedy).of("config-refused"));
    let mut findings: Vec<Finding> = warnings.chain(problems).collect();
    findings.extend(sealed::key(&config, environment).await);
    findings.extend(interrupted::init(&config, environment));
    findings.extend(sealed::credentials(&config, environment).await);
    let socket = socket::check(&environment.paths.socket);
    findings.extend(socket.into_iter().map(|finding| finding.of("socket-mode")));
    let state = socket::check_private("the state directory", &environment.paths.state);
    findings.extend(state.map(|finding| finding.of("state-directory-mode")));
    findings
}

/// A user's own psid that does not listen: its secrets are not those of the system's psid, which is called instead.
fn own_psid_is_down(paths: &Paths) -> Finding {
    let what = format!(
        "{} configures a psid of this user, but nothing is at {}, so that the system's psid is called",
        paths.config.display(),
        paths.socket.display()
    );
    let remedy =
        "start it, `systemctl --user enable --now psid.socket`; without it, remove the config";
    Finding::warning(what, remedy).of("own-psid-down")
}

/// The JSON that `psictl doctor` reads.
pub(crate) fn to_json(findings: &[Finding]) -> String {
    format!("{:#}\n", json!(findings))
}
