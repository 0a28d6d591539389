//! A drill, for the wire: it is a lease, which ends with its time, or with the caller.

use std::sync::Arc;
use std::time::Duration;

use psi_proto::v1::{DrillEvent, DrillFailure, DrillOutcome, DrillStarted, drill_event::Event};
use tokio::sync::mpsc;
use tonic::Status;

use crate::lookup::outage_drill::{FailedLookup, OutageGuard};
use crate::model::clock::Now;
use crate::runtime::Runtime;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3_600);

type Events = mpsc::Receiver<Result<DrillEvent, Status>>;

/// Begins a drill of `millis` at `now`; its events.
pub(super) async fn run(daemon: &Arc<Runtime>, millis: u64, now: Now) -> Result<Events, Status> {
    let span = Duration::from_millis(millis);
    if !(SHORTEST..=LONGEST).contains(&span) {
        return Err(Status::invalid_argument(
            "a drill takes one second to one hour; say how long with --for",
        ));
    }
    let lease = daemon.service.drill.begin(now.mono + span, now.mono).map_err(|until| {
        let left = until.saturating_duration_since(now.mono).as_secs();
        Status::failed_precondition(format!(
            "another drill runs for {left} s; wait for its end, or end it where it was started"
        ))
    })?;
    let offline = daemon.offline(now).await;
    let (would_fail, unknown) = (offline.now.surely, offline.now.perhaps);
    let started = DrillStarted {
        until_ms: now.wall.after(span).as_millis(),
        registered: offline.registered as u64,
        would_fail: would_fail.iter().map(ToString::to_string).collect(),
        unknown: unknown.iter().map(ToString::to_string).collect(),
        unknown_reasons: offline.unknown_why.into_iter().collect(),
    };
    tracing::warn!(
        would_fail = would_fail.len(),
        unknown = unknown.len(),
        "a drill: for {} s at most, providers are treated as out",
        span.as_secs()
    );
    let (sender, events) = mpsc::channel(64);
    tokio::spawn(tell(lease, started, sender));
    Ok(events)
}

async fn tell(
    mut lease: OutageGuard,
    started: DrillStarted,
    events: mpsc::Sender<Result<DrillEvent, Status>>,
) {
    let mut event = Some(Event::Started(started));
    let mut is_gone = false;
    while let Some(next) = event.take() {
        if events.send(Ok(DrillEvent { event: Some(next) })).await.is_err() {
            is_gone = true;
            break;
        }
        event = tokio::select! {
            failed = lease.failed() => failed
                .map(|FailedLookup { secret, why }| Event::Failure(DrillFailure { secret, reason: why })),
            () = events.closed() => {
                is_gone = true;
                None
            }
        };
    }
    let outcome = lease.outcome();
    // Before the outcome is told: whoever hears of the end must find it ended.
    drop(lease);
    let (lookups, failed) = (outcome.lookups, outcome.failed);
    tracing::info!(
        lookups,
        failed,
        "the drill is over{}: of {lookups} lookups, {failed} failed",
        if is_gone { " early, for its caller has gone" } else { "" }
    );
    let outcome = Event::Outcome(DrillOutcome { lookups, failed });
    let _ = events.send(Ok(DrillEvent { event: Some(outcome) })).await;
}
