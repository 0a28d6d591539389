//! What psid tells: as a program of its own, of config, files and credentials; and as the running daemon.

use psi_common::{Finding, Paths};
use psi_proto::v1::{ProviderStatus, StatusResponse, Tristate};

use super::secrets::Seen;
use super::{counted, named};
use crate::ctl::podman::{About, Commands};
use crate::ctl::psid;
use crate::error::CliError;

/// Reasons for a degradation that stop lookups or stores now.
const STOPPING: [&str; 2] = ["registry-unreadable", "state-directory"];

/// `psid doctor`, which works without a daemon.
pub(super) fn of_psid(paths: &Paths, commands: &Commands, podman: Option<&About>) -> Vec<Finding> {
    let mut args = vec!["doctor".to_owned(), "--program".into()];
    args.push(commands.program().display().to_string());
    if let Some(podman) = podman {
        args.extend(["--podman".into(), podman.version.clone()]);
    }
    let failed = |what: String| vec![Finding::error(what, "").of("psid-doctor")];
    let told = match psid::output(paths, &args) {
        Ok(told) => told,
        Err(failure) => return failed(failure.to_string()),
    };
    serde_json::from_slice(&told).unwrap_or_else(|_| {
        failed("the output of `psid doctor` is not understood; install the psid of this psictl's version".into())
    })
}

/// The daemon itself.
pub(super) fn running(status: &Result<StatusResponse, CliError>, seen: &Seen) -> Vec<Finding> {
    match status {
        Ok(status) => of_status(status, seen),
        Err(failure) => {
            let down = Finding::error(failure.to_string(), "").of("psid-down");
            vec![down.affecting(seen.of_psi().map(|secret| secret.name.as_str()))]
        }
    }
}

fn of_status(status: &StatusResponse, seen: &Seen) -> Vec<Finding> {
    let out: Vec<&ProviderStatus> =
        status.providers.iter().filter(|provider| provider.up() == Tristate::No).collect();
    let causes = status.degraded_causes.iter().map(String::as_str);
    let reasons = causes.zip(&status.degraded).filter(|(cause, why)| {
        // Single secrets are told of by name, where podman's are, and a provider that is out below.
        *cause != "secret" && !out.iter().any(|provider| is_same(why, &provider.reason))
    });
    let mut findings: Vec<Finding> =
        reasons.map(|(cause, why)| of_reason(cause, why, seen)).collect();
    findings.extend(out.iter().map(|provider| of_provider(provider, status, seen)));
    let is_explained = findings.iter().any(|it| {
        ["key", "key-opening", "registry-unreadable", "provider-out"].contains(&it.cause.as_str())
    });
    if status.survives_outage() == Tristate::No && !is_explained {
        findings.push(not_cached(status, seen));
    }
    let unknown = status.unknown_reasons.iter().filter(|_| !is_explained && seen.is_used());
    findings.extend(unknown.map(|why| {
        let what = format!("whether an outage would be survived is not known in full: {why}");
        Finding::note(what, "").of("not-known")
    }));
    findings
}

fn is_same(why: &str, of_provider: &str) -> bool {
    !of_provider.is_empty() && why.ends_with(of_provider)
}

fn of_reason(cause: &str, why: &str, seen: &Seen) -> Finding {
    let closed = seen.closed();
    let stops = STOPPING.contains(&cause) || (cause == "key" && !closed.is_empty());
    let finding = if stops { Finding::error(why, "") } else { Finding::warning(why, "") }.of(cause);
    match cause {
        "key" => finding.affecting(closed.iter().map(String::as_str)),
        "registry-unreadable" => {
            finding.affecting(seen.of_psi().map(|secret| secret.name.as_str()))
        }
        _ => finding,
    }
}

/// A provider that is out costs what is not cached, and explains why nothing is fetched.
fn of_provider(provider: &ProviderStatus, status: &StatusResponse, seen: &Seen) -> Finding {
    let what =
        format!("{} is out, and what is cached is served: {}", provider.name, provider.reason);
    // A token that refuses a PIN, say, tells by itself what helps.
    let remedy = if provider.down_since_ms.is_some() { "psid tries again by itself" } else { "" };
    let affects = seen.names(&status.would_fail_now);
    let finding = if affects.is_empty() {
        Finding::warning(what, remedy)
    } else {
        Finding::error(what, remedy)
    };
    finding.of("provider-out").affecting(affects.iter().map(String::as_str))
}

fn not_cached(status: &StatusResponse, seen: &Seen) -> Finding {
    let count = usize::try_from(status.would_fail_count).unwrap_or(usize::MAX);
    let names = seen.names(&status.would_fail);
    let what = format!(
        "a reboot now, with no provider in reach, would not serve {}: {}",
        counted(count, "secret"),
        named(names.iter().map(String::as_str))
    );
    let remedy = "`psictl cache refresh` fetches them, or says why not";
    Finding::warning(what, remedy).of("not-cached").affecting(names.iter().map(String::as_str))
}
