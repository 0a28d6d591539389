//! The status as JSON.

use psi_proto::v1::{HeldSecret, ProviderFailures, StatusResponse, TaskStatus, Verdict};
use serde_json::{Value, json};

pub(super) fn as_json(status: &StatusResponse) -> String {
    let providers: Vec<Value> = status
        .providers
        .iter()
        .map(|provider| {
            json!({
                "name": provider.name,
                "up": verdict(provider.up()),
                "out_since_ms": provider.out_since_ms,
                "why": (provider.up() == Verdict::No).then_some(&provider.why),
                "next_try_ms": provider.next_try_ms,
                "given": provider.given,
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
        "serves_now": verdict(status.serves_now()),
        "survives_outage": verdict(status.survives_outage()),
        "would_fail_now": status.would_fail_now,
        "would_fail_now_count": status.would_fail_now_count,
        "would_fail": status.would_fail,
        "would_fail_count": status.would_fail_count,
        "unknown_now_count": status.unknown_now_count,
        "unknown": status.unknown,
        "unknown_count": status.unknown_count,
        "unknown_why": status.unknown_why,
        "last_refresh": status.last_refresh.as_ref().map(|refresh| json!({
            "at_ms": refresh.at_ms,
            "added": refresh.added,
            "changed": refresh.changed,
            "unchanged": refresh.unchanged,
            "removed": refresh.removed,
            "held": refresh.held,
            "failed": refresh.failed,
        })),
        "providers": providers,
        "held": status.held.iter().map(held).collect::<Vec<_>>(),
        "held_count": status.held_count,
        "overdue": status.overdue,
        "drill_until_ms": status.drill_until_ms,
        "write_errors": status.write_errors,
        "pulls": status.pulls.as_ref().map(|pulls| json!({
            "done": pulls.done,
            "failed": pulls.failed,
            "removed": pulls.removed,
            "held": pulls.held,
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
fn verdict(verdict: Verdict) -> Option<bool> {
    match verdict {
        Verdict::Unspecified => None,
        Verdict::Yes => Some(true),
        Verdict::No => Some(false),
    }
}

fn failures(failures: &ProviderFailures) -> Value {
    json!({
        "unreachable": failures.unreachable,
        "throttled": failures.throttled,
        "unauthenticated": failures.unauthenticated,
        "denied": failures.denied,
        "gone": failures.gone,
        "misbehaved": failures.misbehaved,
    })
}

fn held(held: &HeldSecret) -> Value {
    json!({
        "name": held.name,
        "ids": held.ids,
        "why": held.why,
        "since_ms": held.since_ms,
    })
}
