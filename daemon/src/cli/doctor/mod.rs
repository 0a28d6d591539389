//! `psid doctor`: what is wrong on this host that psid can tell without being up. psictl runs it, and adds
//! what podman and the daemon tell.

pub mod containers_conf;
mod sealed;
mod socket;

use psi_common::Finding;
use serde_json::json;

use crate::cli::check;
use crate::config::Config;
use crate::runtime::build::Environment;

/// Everything that config, files and credentials tell.
pub async fn diagnose(surroundings: &Environment) -> Vec<Finding> {
    let config = match Config::read(&surroundings.paths.config) {
        Ok(config) => config,
        Err(error) => {
            let remedy = "correct it; `psid check` checks it";
            return vec![Finding::error(error.to_string(), remedy).of("config")];
        }
    };
    let mut findings: Vec<Finding> = config
        .warnings
        .iter()
        .map(|warning| {
            let remedy = "see the comments of the packaged config";
            Finding::warning(warning.clone(), remedy).of("config-warning")
        })
        .collect();
    let problems = check::problems_for_doctor(&config, surroundings).await;
    findings.extend(
        problems
            .into_iter()
            .map(|problem| Finding::error(problem.what, problem.remedy).of("config-refused")),
    );
    findings.extend(sealed::key(&config, surroundings).await);
    findings.extend(sealed::credentials(&config, surroundings).await);
    let socket = socket::judge(&config.access, &surroundings.paths.socket);
    findings.extend(socket.into_iter().map(|finding| finding.of("socket-mode")));
    let state = socket::private("the state directory", &surroundings.paths.state);
    findings.extend(state.map(|finding| finding.of("state-directory-mode")));
    findings
}

/// The JSON that `psictl doctor` reads.
pub(crate) fn to_json(findings: &[Finding]) -> String {
    format!("{:#}\n", json!(findings))
}
