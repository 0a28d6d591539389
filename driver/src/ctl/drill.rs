//! `psictl drill`: simulates an outage and reports the lookups that fail.

use std::collections::BTreeMap;

use psi_common::{Exit, Paths};
use psi_proto::v1::drill_event::Event;
use psi_proto::v1::{DrillFailure, DrillOutcome, DrillStarted};
use serde::Serialize;

use crate::client::{Client, Deadline};
use crate::ctl::args::DrillOptions;
use crate::ctl::json;
use crate::ctl::names::Known;
use crate::ctl::wording::counted;
use crate::error::CliError;
use crate::stdio;

/// The events so far.
#[derive(Default)]
struct Output {
    started: DrillStarted,
    failures: Vec<DrillFailure>,
    outcome: DrillOutcome,
}

pub(crate) fn run(paths: &Paths, options: &DrillOptions) -> Result<(), CliError> {
    let mut output = Output::default();
    let mut names = Known::default();
    let mut printed = Ok(());
    let client = Client::new(paths, Deadline::For(options.span));
    client.drill(options.span, &mut |event| {
        let Some(event) = event.event else { return };
        if let Event::Started(started) = &event {
            names = Known::of(paths, started.would_fail.iter().chain(&started.unknown));
        }
        if !options.json && printed.is_ok() {
            printed = stdio::write_text(&as_text(&event, &names, options));
        }
        match event {
            Event::Started(started) => output.started = started,
            Event::Failure(failure) => output.failures.push(failure),
            Event::Outcome(outcome) => output.outcome = outcome,
        }
    })?;
    printed?;
    if options.json {
        stdio::write_text(&output.as_json(&names))?;
    }
    output.result()
}

/// An event as text. It is printed at once, so that a drill that ends early has shown its results.
fn as_text(event: &Event, names: &Known, options: &DrillOptions) -> String {
    match event {
        Event::Started(started) => {
            let span = options.span.as_secs();
            let mut text = format!(
                "drill      simulating an outage of all providers for {span} s; Ctrl-C ends it\n\
                 registered {}; with no provider reachable, {}\n",
                counted(started.registered, "secret"),
                expected(started, names)
            );
            for why in &started.unknown_reasons {
                text += &format!("UNKNOWN    {why}\n");
            }
            text
        }
        Event::Failure(DrillFailure { secret, reason }) => {
            format!("FAILED     {secret}: {reason}\n")
        }
        Event::Outcome(DrillOutcome { lookups, failed }) => {
            format!("end        {}, {failed} failed\n", counted(*lookups, "lookup"))
        }
    }
}

fn expected(
    DrillStarted { registered, would_fail, unknown, unknown_reasons, .. }: &DrillStarted,
    names: &Known,
) -> String {
    let mut parts = Vec::new();
    if !would_fail.is_empty() {
        parts.push(format!("{} would NOT be served: {}", would_fail.len(), names.list(would_fail)));
    }
    if !unknown.is_empty() {
        parts.push(format!("unknown for {}: {}", unknown.len(), names.list(unknown)));
    }
    match parts.is_empty() {
        true if *registered > 0 && unknown_reasons.is_empty() => "all would be served".into(),
        true => "nothing is tested".into(),
        false => parts.join("; "),
    }
}

#[derive(Serialize)]
struct Report<'a> {
    registered: u64,
    would_fail: &'a [String],
    unknown: &'a [String],
    unknown_reasons: &'a [String],
    /// The podman names of these ids, as far as psid knows them.
    names: &'a BTreeMap<String, String>,
    lookups: u64,
    failed_lookups: u64,
    failed: Vec<FailedSecret<'a>>,
}

#[derive(Serialize)]
struct FailedSecret<'a> {
    secret: &'a str,
    reason: &'a str,
}

impl Output {
    fn as_json(&self, names: &Known) -> String {
        let failed = self.failures.iter();
        json::text(&Report {
            registered: self.started.registered,
            would_fail: &self.started.would_fail,
            unknown: &self.started.unknown,
            unknown_reasons: &self.started.unknown_reasons,
            names: names.by_id(),
            lookups: self.outcome.lookups,
            failed_lookups: self.outcome.failed,
            failed: failed
                .map(|DrillFailure { secret, reason }| FailedSecret { secret, reason })
                .collect(),
        })
    }

    /// The exit status: 75 if a lookup failed or would fail.
    fn result(&self) -> Result<(), CliError> {
        let Self { started, outcome, .. } = self;
        if started.would_fail.is_empty() && outcome.failed == 0 {
            if started.unknown_reasons.is_empty() {
                return Ok(());
            }
            return Err(CliError::new(
                Exit::Drift,
                "psid does not know for every secret whether it survives an outage",
                started.unknown_reasons.join("; "),
            ));
        }
        Err(CliError::new(
            Exit::TryLater,
            format!(
                "{} of {} registered secrets would fail in an outage; {} lookups failed in the drill",
                started.would_fail.len(),
                started.registered,
                outcome.failed
            ),
            "run `psictl cache refresh`, and see `psictl cache status`",
        ))
    }
}
