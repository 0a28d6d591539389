//! `psid doctor`: what is wrong on this host that psid can tell without being up. psi-driver runs it, and adds
//! what podman and the daemon tell.

pub mod containers_conf;
mod sealed;
mod socket;

use psi_common::Finding;
use serde_json::{Value, json};

use crate::assemble::Surroundings;
use crate::config::Config;

/// Everything that config, files and credentials tell.
pub async fn diagnose(surroundings: &Surroundings) -> Vec<Finding> {
    let config = match Config::read(&surroundings.paths.config) {
        Ok(config) => config,
        Err(error) => {
            return vec![Finding::error(error.to_string(), "correct it; `psid check` checks it")];
        }
    };
    let mut findings: Vec<Finding> = config
        .warnings
        .iter()
        .map(|warning| Finding::warning(warning.clone(), "see the comments of the packaged config"))
        .collect();
    findings.extend(sealed::key(&config, surroundings).await);
    findings.extend(sealed::credentials(&config, surroundings).await);
    findings.extend(socket::judge(&config.access, &surroundings.paths.socket));
    findings.extend(socket::private("the state folder", &surroundings.paths.state));
    findings
}

/// As psi-driver reads them.
pub fn to_json(findings: &[Finding]) -> String {
    let all = findings.iter().map(|Finding { severity, what, remedy }| {
        json!({"severity": severity.name(), "what": what, "remedy": remedy})
    });
    format!("{:#}\n", all.collect::<Value>())
}
