//! What psid tells: as a program of its own, of config, files and credentials; and as the running daemon.

use psi_common::{Finding, Paths, Severity};
use psi_proto::v1::{StatusResponse, Verdict};
use serde_json::Value;

use super::{counted, named};
use crate::admin::psid;
use crate::client::{Client, Patience};
use crate::podman::{About, Commands};

/// `psid doctor`, which works without a daemon.
pub(super) fn of_psid(paths: &Paths, commands: &Commands, podman: Option<&About>) -> Vec<Finding> {
    let mut args = vec!["doctor".to_owned(), "--program".into()];
    args.push(commands.program().display().to_string());
    if let Some(podman) = podman {
        args.extend(["--podman".into(), podman.version.clone()]);
    }
    let told = match psid::output(paths, &args) {
        Ok(told) => told,
        Err(failure) => return vec![Finding::error(failure.to_string(), "")],
    };
    let told: Value = serde_json::from_slice(&told).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = told.as_array().into_iter().flatten().map(|finding| Finding {
        severity: Severity::of(&text(&finding["severity"])).unwrap_or(Severity::Warning),
        what: text(&finding["what"]),
        remedy: text(&finding["remedy"]),
    });
    all.collect()
}

/// The daemon itself.
pub(super) fn running(paths: &Paths) -> Vec<Finding> {
    match Client::new(paths, Patience::Probe).status(false) {
        Ok(status) => of_status(&status),
        Err(failure) => vec![Finding::error(failure.to_string(), "")],
    }
}

fn of_status(status: &StatusResponse) -> Vec<Finding> {
    // Single secrets are told of by name, where podman's are.
    let reasons = status.degraded.iter().filter(|why| !why.contains(" not usable"));
    let mut findings: Vec<Finding> = reasons.map(|why| Finding::warning(why.clone(), "")).collect();
    for provider in status.providers.iter().filter(|provider| provider.up() == Verdict::No) {
        findings.push(Finding::warning(
            format!("{} is out, and what is cached is served: {}", provider.name, provider.why),
            "psid tries again by itself",
        ));
    }
    // Without a backend that is so by design, and told already.
    if status.survives_outage() == Verdict::No && !status.backend.is_empty() {
        let count = usize::try_from(status.would_fail_count).unwrap_or(usize::MAX);
        let ids = named(status.would_fail.iter().map(String::as_str));
        findings.push(Finding::warning(
            format!(
                "a reboot now, with no provider in reach, would not serve {}: {ids}",
                counted(count, "secret")
            ),
            "`psi-driver cache refresh` fetches them, or says why not",
        ));
    }
    findings
}
