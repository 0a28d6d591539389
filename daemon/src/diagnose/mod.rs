//! `psid doctor`: what is wrong on this host that psid can tell without being up. psi-driver runs it, and adds
//! what podman and the daemon tell.

pub mod containers_conf;
mod sealed;
mod socket;

use std::fmt;

use serde_json::{Value, json};

use crate::assemble::Surroundings;
use crate::config::Config;

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What happened, with its cause.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A container would not start, or a secret could not be made.
    Error,
    /// Nothing fails now.
    Warning,
    /// As it must be, and good to know.
    Note,
}

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

impl Finding {
    fn error(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, what: what.into(), remedy: remedy.into() }
    }

    fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into(), remedy: remedy.into() }
    }

    fn note(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Note, what: what.into(), remedy: remedy.into() }
    }
}

/// As psi-driver reads them.
pub fn to_json(findings: &[Finding]) -> String {
    let all = findings.iter().map(|Finding { severity, what, remedy }| {
        json!({"severity": severity.to_string(), "what": what, "remedy": remedy})
    });
    format!("{:#}\n", all.collect::<Value>())
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}
