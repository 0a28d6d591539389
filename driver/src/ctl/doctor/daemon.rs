//! The findings of psid: of `psid doctor` about config, files and credentials, and of the running daemon.

use psi_common::{Exit, Finding, Problem};
use psi_proto::v1::{ProviderStatus, StatusResponse, Tristate};

use super::named;
use super::secrets::Inventory;
use crate::ctl::wording::counted;
use crate::error::CliError;

/// Causes of a degradation that make lookups or stores fail now.
const FAILING_NOW: [&str; 2] = ["registry-unreadable", "state-directory"];

/// The findings of the running daemon.
pub(super) fn running(
    status: &Result<StatusResponse, CliError>,
    inventory: &Inventory,
) -> Vec<Finding> {
    match status {
        Ok(status) => of_status(status, inventory),
        Err(failure) => {
            let Problem { what, remedy } = failure.problem();
            let cause =
                if failure.exit() == Exit::NotAllowed { "not-allowed" } else { "psid-down" };
            let down = Finding::error(what, remedy).of(cause);
            vec![down.affecting(inventory.of_psi().map(|secret| secret.name.as_str()))]
        }
    }
}

fn of_status(status: &StatusResponse, inventory: &Inventory) -> Vec<Finding> {
    let out: Vec<&ProviderStatus> =
        status.providers.iter().filter(|provider| provider.up() == Tristate::No).collect();
    let causes = status.degraded_causes.iter().map(String::as_str);
    let reasons = causes.zip(&status.degraded).filter(|(cause, why)| {
        // Single secrets are reported by name with podman's, and unreachable providers below.
        *cause != "secret" && !out.iter().any(|provider| is_same(why, &provider.reason))
    });
    let mut findings: Vec<Finding> =
        reasons.map(|(cause, why)| of_reason(cause, why, inventory)).collect();
    findings.extend(out.iter().map(|provider| of_provider(provider, status, inventory)));
    findings.extend(credentials_to_replace(status));
    let is_explained = findings.iter().any(|it| {
        ["key", "key-opening", "registry-unreadable", "provider-out"].contains(&it.cause.as_str())
    });
    if status.survives_outage() == Tristate::No && !is_explained {
        findings.push(not_cached(status, inventory));
    }
    let unknown = status.unknown_reasons.iter().filter(|_| !is_explained && inventory.is_used());
    findings.extend(unknown.map(|why| {
        let what = format!("psid does not know whether it would survive an outage: {why}");
        Finding::note(what, "").of("not-known")
    }));
    findings
}

/// The credentials that expire soon; one that expires now is among the degradations.
fn credentials_to_replace(status: &StatusResponse) -> impl Iterator<Item = Finding> {
    let credentials = status.providers.iter().flat_map(|provider| &provider.credentials);
    let due = credentials.filter(|one| {
        let is_degraded = |why: &String| why.starts_with(one.what.as_str());
        !one.remedy.is_empty() && !status.degraded.iter().any(is_degraded)
    });
    due.map(|one| Finding::note(one.what.as_str(), one.remedy.as_str()).of("login-expiry"))
}

fn is_same(why: &str, of_provider: &str) -> bool {
    !of_provider.is_empty() && why.ends_with(of_provider)
}

fn of_reason(cause: &str, why: &str, inventory: &Inventory) -> Finding {
    let locked = inventory.locked();
    let stops = FAILING_NOW.contains(&cause) || (cause == "key" && !locked.is_empty());
    let finding = if stops { Finding::error(why, "") } else { Finding::warning(why, "") }.of(cause);
    match cause {
        "key" => finding.affecting(locked.iter().map(String::as_str)),
        "registry-unreadable" => {
            finding.affecting(inventory.of_psi().map(|secret| secret.name.as_str()))
        }
        _ => finding,
    }
}

/// A provider that is unreachable: the cause, and the secrets that are not cached.
fn of_provider(
    provider: &ProviderStatus,
    status: &StatusResponse,
    inventory: &Inventory,
) -> Finding {
    let what =
        format!("{} is unreachable, cached values are served: {}", provider.name, provider.reason);
    // Without an outage, as when a token refuses a PIN, the cause has its own remedy.
    let remedy = if provider.down_since_ms.is_some() {
        "psid retries by itself; `psictl cache refresh` tries at once"
    } else {
        ""
    };
    let affects = inventory.names(&status.would_fail_now);
    let finding = if affects.is_empty() {
        Finding::warning(what, remedy)
    } else {
        Finding::error(what, remedy)
    };
    finding.of("provider-out").affecting(affects.iter().map(String::as_str))
}

fn not_cached(status: &StatusResponse, inventory: &Inventory) -> Finding {
    let count = usize::try_from(status.would_fail_count).unwrap_or(usize::MAX);
    let names = inventory.names(&status.would_fail);
    let what = format!(
        "after a reboot now, with no provider reachable, {} would not be served: {}",
        counted(count, "secret"),
        named(names.iter().map(String::as_str))
    );
    let remedy = "`psictl cache refresh` fetches them, or reports the cause";
    Finding::warning(what, remedy).of("not-cached").affecting(names.iter().map(String::as_str))
}
