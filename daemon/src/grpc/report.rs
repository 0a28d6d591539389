//! The daemon's state, for the wire.

use psi_common::{CacheHeader, SecretId, for_own_scope};
use psi_proto::v1::{
    ProviderFailures, ProviderStatus, PullTotals, RefreshSummary, StatusResponse, TaskStatus,
    Tristate, WithheldSecret,
};

use crate::cache::RemovalReason;
use crate::lookup::{Certainty, LookupCounts, OutageReport, Withheld};
use crate::model::clock::{Now, Timestamp};
use crate::provider::Persistence;
use crate::provider::upstream::{ProviderCounters, Upstream};
use crate::refresh::{Summary, Totals};
use crate::registry::Registered;
use crate::runtime::Runtime;
use crate::sys::tasks::TaskReport;

/// How many ids a status names.
const NAMED: usize = 20;

pub(super) async fn told(daemon: &Runtime, now: Now) -> StatusResponse {
    let service = &daemon.service;
    let LookupCounts { hits, stale, misses, failed } = service.lookups();
    let entries = service.cache.len() as u64;
    let span = service.cache.fetch_span();
    let overdue = service.cache.past_max_stale(now.boot) as u64;
    let registered = service.registry.all();
    let count =
        |is: fn(&Registered) -> bool| registered.iter().filter(|(_, what)| is(what)).count() as u64;
    let written = daemon.persister().map(|persister| persister.state()).unwrap_or_default();
    let OutageReport { now: at_once, after_reboot, unknown_why, .. } = daemon.offline(now).await;
    let held = service.held(now);
    let degraded = daemon.degraded();
    let file = std::fs::metadata(&daemon.cache_path).ok();
    StatusResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        backend: daemon
            .backend
            .as_ref()
            .map_or_else(String::new, |backend| backend.tag().to_string()),
        path: daemon.cache_path.display().to_string(),
        size_bytes: file.as_ref().map(std::fs::Metadata::len),
        last_write_ms: file
            .and_then(|file| file.modified().ok())
            .map(|time| Timestamp::from(time).as_millis()),
        format_version: format_version(daemon),
        generation: written.generation,
        entries,
        oldest_fetch_ms: span.map(|(oldest, _)| oldest.as_millis()),
        newest_fetch_ms: span.map(|(_, newest)| newest.as_millis()),
        references: count(|what| matches!(what, Registered::Reference(_))),
        literals: count(|what| matches!(what, Registered::Literal(_))),
        last_refresh: daemon.refresher.last().map(summary),
        providers: service.upstreams().providers.values().map(|one| provider(one)).collect(),
        degraded_causes: degraded.iter().map(|reason| reason.cause.into()).collect(),
        degraded: degraded.iter().map(|reason| for_own_scope(&reason.why).into_owned()).collect(),
        survives_outage: verdict(after_reboot.verdict()).into(),
        would_fail: named(&after_reboot.surely),
        would_fail_count: after_reboot.surely.len() as u64,
        verify: None,
        hits,
        misses,
        has_recovery_key: daemon.recovery_path().exists(),
        would_fail_now: named(&at_once.surely),
        would_fail_now_count: at_once.surely.len() as u64,
        withheld_count: held.len() as u64,
        withheld: held.into_iter().take(NAMED).map(withheld).collect(),
        stale,
        failed,
        past_max_stale: overdue,
        drill_until_ms: service
            .drill
            .until(now.mono)
            .map(|until| now.wall.after(until.saturating_duration_since(now.mono)).as_millis()),
        write_errors: written.errors,
        pulls: Some(totals(daemon.refresher.totals())),
        unknown_now_count: at_once.perhaps.len() as u64,
        unknown_count: after_reboot.perhaps.len() as u64,
        unknown: named(&after_reboot.perhaps),
        unknown_reasons: unknown_why.into_iter().collect(),
        tasks: service.tasks.reports(now.mono).into_iter().map(task).collect(),
        serves_now: verdict(at_once.verdict()).into(),
    }
}

pub(super) fn verdict(verdict: Certainty) -> Tristate {
    match verdict {
        Certainty::Unknown => Tristate::Unspecified,
        Certainty::Yes => Tristate::Yes,
        Certainty::No => Tristate::No,
    }
}

fn task(TaskReport { task, crashes, stalled }: TaskReport) -> TaskStatus {
    let stalled_ms = stalled.and_then(|stalled| u64::try_from(stalled.as_millis()).ok());
    TaskStatus { name: task.name().into(), crashes, stalled_ms }
}

fn named(ids: &[SecretId]) -> Vec<String> {
    ids.iter().take(NAMED).map(ToString::to_string).collect()
}

fn format_version(daemon: &Runtime) -> Option<u32> {
    use std::io::Read;
    let mut header = [0; CacheHeader::LEN];
    std::fs::File::open(&daemon.cache_path).ok()?.read_exact(&mut header).ok()?;
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
        withheld: last.counts.held,
    }
}

fn totals(Totals { done, failed, removed, held }: Totals) -> PullTotals {
    PullTotals { succeeded: done, failed, removed, withheld: held }
}

fn provider(upstream: &Upstream) -> ProviderStatus {
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
    let why = match (outage, up) {
        (Some(outage), _) => outage.why.clone(),
        (None, Certainty::No) => health.last_refusal().unwrap_or("the token is away").to_owned(),
        (None, _) => String::new(),
    };
    ProviderStatus {
        name: upstream.name.clone(),
        up: verdict(up).into(),
        down_since_ms: outage.map(|outage| outage.since.as_millis()),
        next_try_ms: outage.map(|outage| outage.next_try.as_millis()),
        reason: why,
        succeeded,
        failures: Some(ProviderFailures {
            unreachable,
            throttled,
            unauthenticated,
            denied,
            not_found,
            bad_response: misbehaved,
        }),
    }
}

fn withheld(held: Withheld) -> WithheldSecret {
    let why = match held.cause {
        RemovalReason::NotFound => "gone",
        RemovalReason::Denied => "denied",
        RemovalReason::Unlisted => "removed",
        RemovalReason::Emptied => "emptied",
        RemovalReason::BadResponse => "misunderstood",
    };
    WithheldSecret {
        name: held.name,
        ids: held.ids.iter().map(ToString::to_string).collect(),
        reason: why.into(),
        since_ms: held.since.as_millis(),
    }
}
