//! The status as JSON.

use psi_proto::v1::{ProviderFailures, StatusResponse, TaskStatus, Tristate, WithheldSecret};
use serde_json::{Value, json};

pub(super) fn as_json(status: &StatusResponse) -> String {
    let providers: Vec<Value> = status
        .providers
        .iter()
        .map(|provider| {
            json!({
                "name": provider.name,
                "up": tristate(provider.up()),
                "down_since_ms": provider.down_since_ms,
                "reason": (provider.up() == Tristate::No).then_some(&provider.reason),
                "next_try_ms": provider.next_try_ms,
                "succeeded": provider.succeeded,
                "failures": provider.failures.as_ref().map(failures),
            })
        })
        .collect();
    let mut report = json!({
        "daemon": "up",
        "version": status.version,
        "backend": (!status.backend.is_empty()).then_some(&status.backend),
        "path": status.path,
        "size_bytes": status.size_bytes,
        "last_write_ms": status.last_write_ms,
        "format_version": status.format_version,
        "generation": status.generation,
        "entries": status.entries,
        "oldest_fetch_ms": status.oldest_fetch_ms,
        "newest_fetch_ms": status.newest_fetch_ms,
        "references": status.references,
        "literals": status.literals,
        "hits": status.hits,
        "stale": status.stale,
        "misses": status.misses,
        "failed": status.failed,
        "has_recovery_key": status.has_recovery_key,
        "serves_now": tristate(status.serves_now()),
        "survives_outage": tristate(status.survives_outage()),
        "would_fail_now": status.would_fail_now,
        "would_fail_now_count": status.would_fail_now_count,
        "would_fail": status.would_fail,
        "would_fail_count": status.would_fail_count,
        "unknown_now_count": status.unknown_now_count,
        "unknown": status.unknown,
        "unknown_count": status.unknown_count,
        "unknown_reasons": status.unknown_reasons,
        "last_refresh": status.last_refresh.as_ref().map(|refresh| json!({
            "at_ms": refresh.at_ms,
            "added": refresh.added,
            "changed": refresh.changed,
            "unchanged": refresh.unchanged,
            "removed": refresh.removed,
            "withheld": refresh.withheld,
            "failed": refresh.failed,
        })),
        "providers": providers,
        "withheld": status.withheld.iter().map(withheld).collect::<Vec<_>>(),
        "withheld_count": status.withheld_count,
        "past_max_stale": status.past_max_stale,
        "drill_until_ms": status.drill_until_ms,
        "write_errors": status.write_errors,
        "pulls": status.pulls.as_ref().map(|pulls| json!({
            "succeeded": pulls.succeeded,
            "failed": pulls.failed,
            "removed": pulls.removed,
            "withheld": pulls.withheld,
        })),
        "degraded": status.degraded,
    });
    report["verify"] = json!(
        status.verify.as_ref().map(|verify| { json!({"ok": verify.ok, "detail": verify.detail}) })
    );
    report["degraded_causes"] = json!(status.degraded_causes);
    report["tasks"] = status.tasks.iter().map(task).collect();
    format!("{report:#}\n")
}

fn task(task: &TaskStatus) -> Value {
    json!({"name": task.name, "crashes": task.crashes, "stalled_ms": task.stalled_ms})
}

/// `null`: psid does not know.
fn tristate(value: Tristate) -> Option<bool> {
    match value {
        Tristate::Unspecified => None,
        Tristate::Yes => Some(true),
        Tristate::No => Some(false),
    }
}

fn failures(failures: &ProviderFailures) -> Value {
    json!({
        "unreachable": failures.unreachable,
        "throttled": failures.throttled,
        "unauthenticated": failures.unauthenticated,
        "denied": failures.denied,
        "not_found": failures.not_found,
        "bad_response": failures.bad_response,
    })
}

fn withheld(withheld: &WithheldSecret) -> Value {
    json!({
        "name": withheld.name,
        "ids": withheld.ids,
        "reason": withheld.reason,
        "since_ms": withheld.since_ms,
    })
}
