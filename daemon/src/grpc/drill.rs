//! A drill as a stream of events. It ends with its time, or when its caller disconnects.

use std::time::Duration;

use psi_proto::v1::{DrillEvent, DrillFailure, DrillOutcome, DrillStarted, drill_event::Event};
use tokio::sync::mpsc;
use tonic::Status;

use super::control::Control;
use crate::lookup::outage_drill::{FailedLookup, OutageGuard};
use crate::model::clock::Now;

const MIN_DURATION: Duration = Duration::from_secs(1);
const MAX_DURATION: Duration = Duration::from_secs(3_600);

type Events = mpsc::Receiver<Result<DrillEvent, Status>>;

/// Begins a drill of `millis` at `now` and returns its events.
pub(super) async fn run(daemon: &dyn Control, millis: u64, now: Now) -> Result<Events, Status> {
    let span = Duration::from_millis(millis);
    if !(MIN_DURATION..=MAX_DURATION).contains(&span) {
        return Err(Status::invalid_argument(
            "a drill takes 1 s to 1 h; give its duration with --for",
        ));
    }
    let guard = daemon.service().begin_drill(span, now).map_err(|until| {
        let left = until.saturating_duration_since(now.mono).as_secs();
        Status::failed_precondition(format!(
            "another drill runs for {left} s more; wait for its end, or interrupt the command that started it"
        ))
    })?;
    let offline = daemon.outage_report(now).await;
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
        "a drill started: psid treats providers as unreachable for at most {} s",
        span.as_secs()
    );
    let (sender, events) = mpsc::channel(64);
    tokio::spawn(send_events(guard, started, sender));
    Ok(events)
}

async fn send_events(
    mut guard: OutageGuard,
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
            failed = guard.failed() => failed
                .map(|FailedLookup { secret, why }| Event::Failure(DrillFailure { secret, reason: why })),
            () = events.closed() => {
                is_gone = true;
                None
            }
        };
    }
    let outcome = guard.outcome();
    // Before the outcome is sent: the caller must find the drill ended.
    drop(guard);
    let (lookups, failed) = (outcome.lookups, outcome.failed);
    tracing::info!(
        lookups,
        failed,
        "the drill ended{}: {failed} of {lookups} lookups failed",
        if is_gone { " early, its caller disconnected" } else { "" }
    );
    let outcome = Event::Outcome(DrillOutcome { lookups, failed });
    let _ = events.send(Ok(DrillEvent { event: Some(outcome) })).await;
}
