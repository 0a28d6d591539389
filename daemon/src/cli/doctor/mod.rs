//! `psid doctor`: the findings about this host that need no running psid. `psictl doctor` runs it, and adds findings
//! about podman and the daemon.

pub mod containers_conf;
mod sealed;
mod socket;

use psi_common::Finding;
use serde_json::json;

use crate::cli::check;
use crate::config::Config;
use crate::runtime::build::Environment;

/// The findings about the config, the files and the credentials.
pub async fn diagnose(environment: &Environment) -> Vec<Finding> {
    let config = match Config::read(&environment.paths.config) {
        Ok(config) => config,
        Err(error) => {
            let remedy = "correct it, and run `psid check`";
            return vec![Finding::error(error.to_string(), remedy).of("config")];
        }
    };
    let mut findings: Vec<Finding> = config
        .warnings
        .iter()
        .map(|warning| {
            let remedy = "see psi.toml(5)";
            Finding::warning(warning.clone(), remedy).of("config-warning")
        })
        .collect();
    let problems = check::problems_for_doctor(&config, environment).await;
    findings.extend(
        problems
            .into_iter()
            .map(|problem| Finding::error(problem.what, problem.remedy).of("config-refused")),
    );
    findings.extend(sealed::key(&config, environment).await);
    findings.extend(sealed::credentials(&config, environment).await);
    let socket = socket::check(&config.access, &environment.paths.socket);
    findings.extend(socket.into_iter().map(|finding| finding.of("socket-mode")));
    let state = socket::check_private("the state directory", &environment.paths.state);
    findings.extend(state.map(|finding| finding.of("state-directory-mode")));
    findings
}

/// The JSON that `psictl doctor` reads.
pub(crate) fn to_json(findings: &[Finding]) -> String {
    format!("{:#}\n", json!(findings))
}
