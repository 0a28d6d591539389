//! The status of the daemon as a message.

use std::path::Path;

use psi_common::{CacheHeader, CheckedCredential, SecretId, for_own_scope};
use psi_proto::v1::{
    ExpiringCredential, ProviderFailures, ProviderStatus, PullTotals, RefreshSummary,
    StatusResponse, TaskStatus, Tristate, WithheldSecret,
};

use super::control::{CacheFileReport, Control, Degradation};
use crate::cache::RemovalReason;
use crate::lookup::{Certainty, LookupCounts, OutageReport, ServiceReport, Withheld};
use crate::model::clock::{Now, Timestamp};
use crate::model::principal::Principal;
use crate::provider::Persistence;
use crate::provider::upstream::{ProviderCounters, Upstream};
use crate::refresh::{Summary, Totals};
use crate::sys::tasks::TaskReport;
use crate::trail::TrailTotals;

/// The number of ids that a status lists.
const MAX_IDS: usize = 20;

/// The status of the daemon.
pub(super) async fn status_response(daemon: &dyn Control, now: Now) -> StatusResponse {
    let service = daemon.service();
    let (last_refresh, pulls) = daemon.refreshes();
    let mut response = StatusResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        last_refresh: last_refresh.map(summary),
        pulls: Some(totals(pulls)),
        providers: service.upstreams().providers.values().map(|one| provider(one, now)).collect(),
        ..StatusResponse::default()
    };
    set_cache_file(&mut response, &daemon.cache_file());
    set_service(&mut response, service.report(now), now);
    set_outage(&mut response, daemon.outage_report(now).await);
    set_degradations(&mut response, &daemon.degradations());
    set_trail(&mut response, daemon.trail().totals());
    response
}

/// The causes of degradations of which users learn: those that may concern any secret, and name none.
const SHARED_CAUSES: [&str; 4] = ["key", "key-opening", "registry-unreadable", "cache-write"];

/// The status of what a user registered.
pub(super) async fn users_status_response(
    daemon: &dyn Control,
    caller: Principal,
    now: Now,
) -> StatusResponse {
    let service = daemon.service();
    let [references, literals, registered] = service.counts_of(caller);
    let mut response = StatusResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        backend: backend_name(&daemon.cache_file()),
        references: references as u64,
        literals: literals as u64,
        of_user: caller.as_owner(),
        ..StatusResponse::default()
    };
    let report = daemon.outage_report(now).await;
    let has = |id| service.has(id, caller);
    set_outage(&mut response, report.restricted_to(registered, has));
    let mut shared = daemon.degradations();
    shared.retain(|one| SHARED_CAUSES.contains(&one.cause));
    set_degradations(&mut response, &shared);
    response
}

fn set_cache_file(response: &mut StatusResponse, report: &CacheFileReport) {
    let file = std::fs::metadata(&report.path).ok();
    let modified = file.as_ref().and_then(|file| file.modified().ok());
    response.backend = backend_name(report);
    response.key_bound_to = report.key_bound_to.clone().unwrap_or_default();
    response.path = report.path.display().to_string();
    response.size_bytes = file.as_ref().map(std::fs::Metadata::len);
    response.last_write_ms = modified.map(|time| Timestamp::from(time).as_millis());
    response.format_version = format_version(&report.path);
    response.generation = report.generation;
    response.write_errors = report.write_errors;
    response.has_recovery_key = report.has_recovery_key;
}

fn backend_name(report: &CacheFileReport) -> String {
    report.backend.map_or_else(String::new, |backend| backend.to_string())
}

fn set_service(response: &mut StatusResponse, report: ServiceReport, now: Now) {
    let tasks = report.tasks;
    let LookupCounts { hits, stale, misses, failed } = report.lookups;
    (response.hits, response.stale, response.misses, response.failed) =
        (hits, stale, misses, failed);
    response.entries = report.entries as u64;
    response.oldest_fetch_ms = report.fetched.map(|(oldest, _)| oldest.as_millis());
    response.newest_fetch_ms = report.fetched.map(|(_, newest)| newest.as_millis());
    response.references = report.references as u64;
    response.literals = report.literals as u64;
    response.withheld_count = report.withheld.len() as u64;
    response.withheld = report.withheld.into_iter().take(MAX_IDS).map(withheld).collect();
    response.past_max_stale = report.past_max_stale as u64;
    response.drill_until_ms = report
        .drill_until
        .map(|until| now.wall.after(until.saturating_duration_since(now.mono)).as_millis());
    response.tasks = tasks.into_iter().map(task).collect();
}

fn set_outage(response: &mut StatusResponse, report: OutageReport) {
    let OutageReport { now, after_reboot, unknown_why, .. } = report;
    response.serves_now = tristate(now.verdict()).into();
    response.would_fail_now = first_ids(&now.surely);
    response.would_fail_now_count = now.surely.len() as u64;
    response.unknown_now_count = now.perhaps.len() as u64;
    response.survives_outage = tristate(after_reboot.verdict()).into();
    response.would_fail = first_ids(&after_reboot.surely);
    response.would_fail_count = after_reboot.surely.len() as u64;
    response.unknown = first_ids(&after_reboot.perhaps);
    response.unknown_count = after_reboot.perhaps.len() as u64;
    response.unknown_reasons = unknown_why.into_iter().collect();
}

fn set_trail(response: &mut StatusResponse, totals: TrailTotals) {
    response.refused_calls = totals.refusals;
    response.trail_records = totals.recorded;
    response.trail_left_out = totals.left_out;
}

fn set_degradations(response: &mut StatusResponse, all: &[Degradation]) {
    response.degraded = all.iter().map(|one| for_own_scope(&one.why).into_owned()).collect();
    response.degraded_causes = all.iter().map(|one| one.cause.into()).collect();
}

pub(super) fn tristate(certainty: Certainty) -> Tristate {
    match certainty {
        Certainty::Unknown => Tristate::Unspecified,
        Certainty::Yes => Tristate::Yes,
        Certainty::No => Tristate::No,
    }
}

fn task(TaskReport { task, crashes, stalled }: TaskReport) -> TaskStatus {
    let stalled_ms = stalled.and_then(|stalled| u64::try_from(stalled.as_millis()).ok());
    TaskStatus { name: task.name().into(), crashes, stalled_ms }
}

fn first_ids(ids: &[SecretId]) -> Vec<String> {
    ids.iter().take(MAX_IDS).map(ToString::to_string).collect()
}

fn format_version(path: &Path) -> Option<u32> {
    use std::io::Read;
    let mut header = [0; CacheHeader::LEN];
    std::fs::File::open(path).ok()?.read_exact(&mut header).ok()?;
    CacheHeader::parse(&header).ok().map(|header| header.version.into())
}

fn summary(last: Summary) -> RefreshSummary {
    RefreshSummary {
        at_ms: last.at.as_millis(),
        added: last.counts.added,
        changed: last.counts.changed,
        unchanged: last.counts.unchanged,
        removed: last.counts.removed,
        failed: last.failed,
        withheld: last.counts.withheld,
    }
}

fn totals(Totals { done, failed, removed, withheld }: Totals) -> PullTotals {
    PullTotals { succeeded: done, failed, removed, withheld }
}

fn provider(upstream: &Upstream, now: Now) -> ProviderStatus {
    let health = upstream.health();
    let outage = health.breaker.outage();
    let ProviderCounters {
        succeeded,
        unreachable,
        throttled,
        unauthenticated,
        denied,
        not_found,
        misbehaved,
    } = health.counters;
    let is_asked =
        succeeded + unreachable + throttled + unauthenticated + denied + not_found + misbehaved > 0;
    let up = match (outage, upstream.provider.persistence()) {
        (Some(_), _) => Certainty::No,
        (None, Persistence::MemoryOnly) => Certainty::from(&upstream.provider.reach()),
        (None, Persistence::Persisted) if is_asked => Certainty::Yes,
        (None, Persistence::Persisted) => Certainty::Unknown,
    };
    let reason = match (outage, up) {
        (Some(outage), _) => outage.why.clone(),
        (None, Certainty::No) => health.last_refusal().unwrap_or("the token is absent").to_owned(),
        (None, _) => String::new(),
    };
    ProviderStatus {
        name: upstream.name.clone(),
        up: tristate(up).into(),
        down_since_ms: outage.map(|outage| outage.since.as_millis()),
        next_try_ms: outage.map(|outage| outage.next_try.as_millis()),
        reason,
        succeeded,
        failures: Some(ProviderFailures {
            unreachable,
            throttled,
            unauthenticated,
            denied,
            not_found,
            bad_response: misbehaved,
        }),
        credentials: upstream
            .provider
            .expiring_credentials()
            .iter()
            .map(|expiry| credential(expiry.identity(), expiry.checked(now.wall)))
            .collect(),
    }
}

/// The credential of an identity.
pub(super) fn credential(identity: &str, checked: CheckedCredential) -> ExpiringCredential {
    let CheckedCredential { what, expires_ms, remedy } = checked;
    let remedy = for_own_scope(&remedy).into_owned();
    ExpiringCredential { identity: identity.to_owned(), what, expires_ms, remedy }
}

fn withheld(withheld: Withheld) -> WithheldSecret {
    let why = match withheld.cause {
        RemovalReason::NotFound => "gone",
        RemovalReason::Denied => "denied",
        RemovalReason::Unlisted => "removed",
        RemovalReason::Emptied => "emptied",
        RemovalReason::BadResponse => "misunderstood",
    };
    WithheldSecret {
        name: withheld.name,
        ids: withheld.ids.iter().map(ToString::to_string).collect(),
        reason: why.into(),
        since_ms: withheld.since.as_millis(),
    }
}
