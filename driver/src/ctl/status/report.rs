//! The status as JSON. Its keys are an interface: they do not follow the names of the wire.

use std::collections::BTreeMap;

use psi_proto::v1::{
    ExpiringCredential, ProviderFailures, ProviderStatus, PullTotals, RefreshSummary,
    StatusResponse, TaskStatus, Tristate, VerifyResult, WithheldSecret,
};
use serde::Serialize;

use crate::ctl::changes::{Changes, ReportedUnit};
use crate::ctl::json;
use crate::ctl::names::Known;

pub(super) fn as_json(status: &StatusResponse, names: &Known, changes: &Changes) -> String {
    let outdated_units = changes.units();
    let changes_unknown = &changes.unknown;
    json::text(&Full { report: Report::of(status, names), outdated_units, changes_unknown })
}

#[derive(Serialize)]
struct Full<'a> {
    #[serde(flatten)]
    report: Report<'a>,
    /// The units that run with an older value.
    outdated_units: Vec<ReportedUnit<'a>>,
    /// Why it is not known of others.
    changes_unknown: &'a [String],
}

/// `None` of any field is `null`: unknown, or not applicable.
#[derive(Serialize)]
struct Report<'a> {
    daemon: &'static str,
    version: &'a str,
    /// The user to whom the status is limited.
    of_user: Option<u32>,
    backend: Option<&'a str>,
    key_bound_to: Option<&'a str>,
    path: Option<&'a str>,
    size_bytes: Option<u64>,
    last_write_ms: Option<u64>,
    format_version: Option<u32>,
    generation: Option<u64>,
    entries: Option<u64>,
    oldest_fetch_ms: Option<u64>,
    newest_fetch_ms: Option<u64>,
    references: u64,
    literals: u64,
    hits: Option<u64>,
    stale: Option<u64>,
    misses: Option<u64>,
    failed: Option<u64>,
    refused_calls: Option<u64>,
    trail_records: Option<u64>,
    trail_left_out: Option<u64>,
    has_recovery_key: Option<bool>,
    #[serde(flatten)]
    outage: Outage<'a>,
    last_refresh: Option<Refresh<'a>>,
    providers: Vec<Provider<'a>>,
    withheld: Vec<Withheld<'a>>,
    withheld_count: Option<u64>,
    /// The podman names of the ids in this report, as far as psid knows them.
    names: &'a BTreeMap<String, String>,
    past_max_stale: Option<u64>,
    drill_until_ms: Option<u64>,
    write_errors: Option<u64>,
    pulls: Option<Pulls>,
    degraded: &'a [String],
    degraded_causes: &'a [String],
    verify: Option<Verify<'a>>,
    tasks: Vec<Task<'a>>,
}

/// What would be served without any provider.
#[derive(Serialize)]
struct Outage<'a> {
    serves_now: Option<bool>,
    survives_outage: Option<bool>,
    would_fail_now: &'a [String],
    would_fail_now_count: u64,
    would_fail: &'a [String],
    would_fail_count: u64,
    unknown_now_count: u64,
    unknown: &'a [String],
    unknown_count: u64,
    unknown_reasons: &'a [String],
}

#[derive(Serialize)]
struct Refresh<'a> {
    at_ms: u64,
    added: u64,
    changed: u64,
    unchanged: u64,
    removed: u64,
    withheld: u64,
    failed: &'a [String],
}

#[derive(Serialize)]
struct Provider<'a> {
    name: &'a str,
    up: Option<bool>,
    down_since_ms: Option<u64>,
    reason: Option<&'a str>,
    next_try_ms: Option<u64>,
    succeeded: u64,
    failures: Option<Failures>,
    credentials: Vec<Credential<'a>>,
}

#[derive(Serialize)]
struct Credential<'a> {
    identity: &'a str,
    what: &'a str,
    expires_ms: u64,
    remedy: Option<&'a str>,
}

#[derive(Serialize)]
struct Failures {
    unreachable: u64,
    throttled: u64,
    unauthenticated: u64,
    denied: u64,
    not_found: u64,
    bad_response: u64,
}

#[derive(Serialize)]
struct Withheld<'a> {
    name: &'a str,
    ids: &'a [String],
    reason: &'a str,
    since_ms: u64,
}

#[derive(Serialize)]
struct Pulls {
    succeeded: u64,
    failed: u64,
    removed: u64,
    withheld: u64,
}

#[derive(Serialize)]
struct Verify<'a> {
    ok: bool,
    detail: &'a str,
}

#[derive(Serialize)]
struct Task<'a> {
    name: &'a str,
    crashes: u64,
    stalled_ms: Option<u64>,
}

impl<'a> Report<'a> {
    fn of(status: &'a StatusResponse, names: &'a Known) -> Self {
        let is_of_all = status.of_user.is_none();
        let of_all = |number: u64| is_of_all.then_some(number);
        Self {
            daemon: "up",
            version: &status.version,
            of_user: status.of_user,
            backend: (!status.backend.is_empty()).then_some(&status.backend),
            key_bound_to: (!status.key_bound_to.is_empty()).then_some(&status.key_bound_to),
            path: is_of_all.then_some(&status.path),
            size_bytes: status.size_bytes,
            last_write_ms: status.last_write_ms,
            format_version: status.format_version,
            generation: of_all(status.generation),
            entries: of_all(status.entries),
            oldest_fetch_ms: status.oldest_fetch_ms,
            newest_fetch_ms: status.newest_fetch_ms,
            references: status.references,
            literals: status.literals,
            hits: of_all(status.hits),
            stale: of_all(status.stale),
            misses: of_all(status.misses),
            failed: of_all(status.failed),
            refused_calls: of_all(status.refused_calls),
            trail_records: of_all(status.trail_records),
            trail_left_out: of_all(status.trail_left_out),
            has_recovery_key: is_of_all.then_some(status.has_recovery_key),
            outage: Outage::of(status),
            last_refresh: status.last_refresh.as_ref().map(Refresh::of),
            providers: status.providers.iter().map(Provider::of).collect(),
            withheld: status.withheld.iter().map(Withheld::of).collect(),
            withheld_count: of_all(status.withheld_count),
            names: names.by_id(),
            past_max_stale: of_all(status.past_max_stale),
            drill_until_ms: status.drill_until_ms,
            write_errors: of_all(status.write_errors),
            pulls: status.pulls.as_ref().map(Pulls::of),
            degraded: &status.degraded,
            degraded_causes: &status.degraded_causes,
            verify: status.verify.as_ref().map(Verify::of),
            tasks: status.tasks.iter().map(Task::of).collect(),
        }
    }
}

impl<'a> Outage<'a> {
    fn of(status: &'a StatusResponse) -> Self {
        Self {
            serves_now: known(status.serves_now()),
            survives_outage: known(status.survives_outage()),
            would_fail_now: &status.would_fail_now,
            would_fail_now_count: status.would_fail_now_count,
            would_fail: &status.would_fail,
            would_fail_count: status.would_fail_count,
            unknown_now_count: status.unknown_now_count,
            unknown: &status.unknown,
            unknown_count: status.unknown_count,
            unknown_reasons: &status.unknown_reasons,
        }
    }
}

impl<'a> Refresh<'a> {
    fn of(refresh: &'a RefreshSummary) -> Self {
        Self {
            at_ms: refresh.at_ms,
            added: refresh.added,
            changed: refresh.changed,
            unchanged: refresh.unchanged,
            removed: refresh.removed,
            withheld: refresh.withheld,
            failed: &refresh.failed,
        }
    }
}

impl<'a> Provider<'a> {
    fn of(provider: &'a ProviderStatus) -> Self {
        Self {
            name: &provider.name,
            up: known(provider.up()),
            down_since_ms: provider.down_since_ms,
            reason: (provider.up() == Tristate::No).then_some(&provider.reason),
            next_try_ms: provider.next_try_ms,
            succeeded: provider.succeeded,
            failures: provider.failures.as_ref().map(Failures::of),
            credentials: provider.credentials.iter().map(Credential::of).collect(),
        }
    }
}

impl<'a> Credential<'a> {
    fn of(credential: &'a ExpiringCredential) -> Self {
        Self {
            identity: &credential.identity,
            what: &credential.what,
            expires_ms: credential.expires_ms,
            remedy: (!credential.remedy.is_empty()).then_some(&credential.remedy),
        }
    }
}

impl Failures {
    fn of(failures: &ProviderFailures) -> Self {
        Self {
            unreachable: failures.unreachable,
            throttled: failures.throttled,
            unauthenticated: failures.unauthenticated,
            denied: failures.denied,
            not_found: failures.not_found,
            bad_response: failures.bad_response,
        }
    }
}

impl<'a> Withheld<'a> {
    fn of(withheld: &'a WithheldSecret) -> Self {
        Self {
            name: &withheld.name,
            ids: &withheld.ids,
            reason: &withheld.reason,
            since_ms: withheld.since_ms,
        }
    }
}

impl Pulls {
    fn of(pulls: &PullTotals) -> Self {
        Self {
            succeeded: pulls.succeeded,
            failed: pulls.failed,
            removed: pulls.removed,
            withheld: pulls.withheld,
        }
    }
}

impl<'a> Verify<'a> {
    fn of(result: &'a VerifyResult) -> Self {
        Self { ok: result.ok, detail: &result.detail }
    }
}

impl<'a> Task<'a> {
    fn of(task: &'a TaskStatus) -> Self {
        Self { name: &task.name, crashes: task.crashes, stalled_ms: task.stalled_ms }
    }
}

/// `None`: psid does not know.
fn known(tristate: Tristate) -> Option<bool> {
    match tristate {
        Tristate::Unspecified => None,
        Tristate::Yes => Some(true),
        Tristate::No => Some(false),
    }
}
