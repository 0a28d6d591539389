//! `psictl metrics`: the daemon's state in Prometheus' text format. There is no listener: the collector runs this
//! command, and the socket's peer credentials decide whether it may.

use std::fmt::{Display, Write};

use psi_common::{Exit, Paths};
use psi_proto::v1::{ProviderFailures, ProviderStatus, StatusResponse, TaskStatus, Tristate};

use crate::client::{Client, Deadline};
use crate::ctl::changes::{self, Changes};
use crate::error::CliError;
use crate::stdio;

/// A daemon that is down is a metric as well as an error.
pub(crate) fn run(paths: &Paths) -> Result<(), CliError> {
    match Client::new(paths, Deadline::Probe).status(false) {
        Ok(status) => {
            let changes = changes::look(paths, Deadline::Probe);
            stdio::write_text(&(as_text(&status) + &outdated(&changes)))
        }
        Err(down) => {
            if down.exit() == Exit::NoDaemon {
                let mut metrics = Metrics::default();
                metrics.gauge("up", "Whether psid answers", 0);
                stdio::write_text(&metrics.text)?;
            }
            Err(down)
        }
    }
}

/// Text exposition format 0.0.4: HELP and TYPE, and one line for each sample.
#[derive(Default)]
struct Metrics {
    text: String,
}

fn as_text(status: &StatusResponse) -> String {
    let mut metrics = Metrics::default();
    metrics.gauge("up", "Whether psid answers", 1);
    metrics.samples(
        "build_info",
        "gauge",
        "The version of psid",
        &[(&[("version", &status.version), ("backend", &status.backend)], 1)],
    );
    // psid counts the rest for all users, and reports it to root alone.
    let is_of_all = status.of_user.is_none();
    if is_of_all {
        lookups(&mut metrics, status);
        trail(&mut metrics, status);
        cache(&mut metrics, status);
        refreshes(&mut metrics, status);
    }
    offline(&mut metrics, status);
    if is_of_all {
        drill(&mut metrics, status);
        providers(&mut metrics, &status.providers);
        tasks(&mut metrics, &status.tasks);
    }
    metrics.text
}

/// The units that run with an older value; no sample if that is not known.
fn outdated(changes: &Changes) -> String {
    let mut metrics = Metrics::default();
    if changes.unknown.is_empty() {
        let help = "Units that run with an older value of a secret";
        metrics.gauge("outdated_units", help, changes.units().len());
    }
    let units = changes.units();
    let labels = units.iter().map(|unit| [("workload", unit.workload), ("unit", unit.unit)]);
    let labels: Vec<_> = labels.collect();
    let times = units.iter().map(|unit| seconds(unit.changed_at_ms));
    let samples: Vec<_> = labels.iter().map(<[_; 2]>::as_slice).zip(times).collect();
    if !samples.is_empty() {
        let help = "When a value changed after the unit had read the one before";
        metrics.samples("unit_outdated_since_timestamp_seconds", "gauge", help, &samples);
    }
    metrics.text
}

fn lookups(metrics: &mut Metrics, status: &StatusResponse) {
    metrics.samples(
        "lookups_total",
        "counter",
        "Lookups by source; stale: an expired value from RAM, because the provider did not answer",
        &[
            (&[("from", "ram")], status.hits),
            (&[("from", "provider")], status.misses),
            (&[("from", "stale")], status.stale),
            (&[("from", "nothing")], status.failed),
        ],
    );
}

fn trail(metrics: &mut Metrics, status: &StatusResponse) {
    let refused = "Calls that were refused because their user may not make them";
    metrics.counter("refused_calls_total", refused, status.refused_calls);
    let records = "Records of uses, refusals and changes in the journal";
    metrics.counter("trail_records_total", records, status.trail_records);
    let left_out = "Records that were left out because a user had too many in a minute";
    metrics.counter("trail_left_out_total", left_out, status.trail_left_out);
}

fn cache(metrics: &mut Metrics, status: &StatusResponse) {
    metrics.gauge("cache_entries", "Values in the cache", status.entries);
    metrics.time("cache_oldest_fetch", "When the oldest value was fetched", status.oldest_fetch_ms);
    metrics.time("cache_newest_fetch", "When the newest value was fetched", status.newest_fetch_ms);
    metrics.time("cache_last_write", "When cache.enc was last written", status.last_write_ms);
    metrics.gauge("cache_generation", "The generation of cache.enc", status.generation);
    let errors = "Writes of cache.enc that failed";
    metrics.counter("cache_write_errors_total", errors, status.write_errors);
    let withheld = "Values that are served although their provider no longer has them";
    metrics.gauge("cache_withheld_entries", withheld, status.withheld_count);
    let past_max_stale =
        "Values older than max_stale, servable because they were served since the boot";
    metrics.gauge("cache_past_max_stale_entries", past_max_stale, status.past_max_stale);
}

fn refreshes(metrics: &mut Metrics, status: &StatusResponse) {
    let pulls = status.pulls.unwrap_or_default();
    metrics.samples(
        "source_refreshes_total",
        "counter",
        "Refreshes of single sources, by outcome",
        &[(&[("outcome", "succeeded")], pulls.succeeded), (&[("outcome", "failed")], pulls.failed)],
    );
    metrics.counter("removed_entries_total", "Values that refreshes removed", pulls.removed);
    let withheld = "Values that refreshes would have removed or emptied, and withheld";
    metrics.counter("withheld_removals_total", withheld, pulls.withheld);
    let last = status.last_refresh.as_ref();
    metrics.time("last_refresh", "When the last refresh ended", last.map(|last| last.at_ms));
    if let Some(last) = last {
        let failing = "Sources whose last refresh failed";
        metrics.gauge("failing_sources", failing, last.failed.len());
    }
}

fn offline(metrics: &mut Metrics, status: &StatusResponse) {
    metrics.samples(
        "registered_secrets",
        "gauge",
        "Secrets that podman registered",
        &[(&[("kind", "reference")], status.references), (&[("kind", "literal")], status.literals)],
    );
    metrics.samples(
        "would_fail_secrets",
        "gauge",
        "Registered secrets that would fail with no provider reachable; NaN if unknown",
        &[
            (&[("when", "now")], unless_blind(status, status.would_fail_now_count)),
            (&[("when", "after_reboot")], unless_blind(status, status.would_fail_count)),
        ],
    );
    metrics.samples(
        "unknown_secrets",
        "gauge",
        "Registered secrets whose lookup with no provider reachable is unknown",
        &[
            (&[("when", "now")], unless_blind(status, status.unknown_now_count)),
            (&[("when", "after_reboot")], unless_blind(status, status.unknown_count)),
        ],
    );
    metrics.samples(
        "survives_outage",
        "gauge",
        "Whether every registered secret would be served with no provider reachable; NaN if unknown",
        &[
            (&[("when", "now")], tristate(status.serves_now())),
            (&[("when", "after_reboot")], tristate(status.survives_outage())),
        ],
    );
    let reasons = "Reasons that psid is degraded; `psictl cache status` lists them";
    metrics.gauge("degraded_reasons", reasons, status.degraded.len());
}

fn drill(metrics: &mut Metrics, status: &StatusResponse) {
    let drill = "Whether a drill treats providers as unreachable";
    metrics.gauge("drill", drill, u8::from(status.drill_until_ms.is_some()));
}

/// `NaN` if the registrations cannot be read or there are none.
fn unless_blind(status: &StatusResponse, count: u64) -> String {
    let is_blind = status.survives_outage() == Tristate::Unspecified && status.unknown_count == 0;
    if is_blind { "NaN".into() } else { count.to_string() }
}

fn tristate(value: Tristate) -> &'static str {
    match value {
        Tristate::Unspecified => "NaN",
        Tristate::Yes => "1",
        Tristate::No => "0",
    }
}

fn tasks(metrics: &mut Metrics, tasks: &[TaskStatus]) {
    let labels: Vec<_> = tasks.iter().map(|task| [("task", task.name.as_str())]).collect();
    let samples = |value: fn(&TaskStatus) -> u64| -> Vec<(&[(&str, &str)], u64)> {
        labels.iter().map(<[_; 1]>::as_slice).zip(tasks.iter().map(value)).collect()
    };
    let crashes = "Crashes of psid's background tasks; each was restarted";
    metrics.samples("task_crashes_total", "counter", crashes, &samples(|task| task.crashes));
    let stalled = "Whether a step of a background task takes too long";
    let is_stalled = samples(|task| u64::from(task.stalled_ms.is_some()));
    metrics.samples("task_stalled", "gauge", stalled, &is_stalled);
}

fn providers(metrics: &mut Metrics, providers: &[ProviderStatus]) {
    let up: Vec<_> = providers
        .iter()
        .map(|provider| ([("provider", provider.name.as_str())], tristate(provider.up())))
        .collect();
    let up: Vec<(&[_], _)> = up.iter().map(|(labels, value)| (&labels[..], *value)).collect();
    metrics.samples(
        "provider_up",
        "gauge",
        "Whether the provider answers; NaN before the first call",
        &up,
    );
    let mut requests = Vec::new();
    for provider in providers {
        let ProviderFailures {
            unreachable,
            throttled,
            unauthenticated,
            denied,
            not_found,
            bad_response,
        } = provider.failures.unwrap_or_default();
        for (outcome, count) in [
            ("succeeded", provider.succeeded),
            ("unreachable", unreachable),
            ("throttled", throttled),
            ("unauthenticated", unauthenticated),
            ("denied", denied),
            ("not_found", not_found),
            ("bad_response", bad_response),
        ] {
            requests.push(([("provider", provider.name.as_str()), ("outcome", outcome)], count));
        }
    }
    let requests: Vec<(&[_], _)> =
        requests.iter().map(|(labels, value)| (&labels[..], *value)).collect();
    let help = "Requests to the provider by outcome";
    metrics.samples("provider_requests_total", "counter", help, &requests);
    credentials(metrics, providers);
}

fn credentials(metrics: &mut Metrics, providers: &[ProviderStatus]) {
    let mut ends = Vec::new();
    for provider in providers {
        for credential in &provider.credentials {
            let labels = [("provider", provider.name.as_str()), ("identity", &credential.identity)];
            ends.push((labels, seconds(credential.expires_ms)));
        }
    }
    if !ends.is_empty() {
        let ends: Vec<(&[_], _)> = ends.iter().map(|(labels, end)| (&labels[..], end)).collect();
        let help = "When the credential of a login expires that does not renew itself";
        metrics.samples("login_expiry_timestamp_seconds", "gauge", help, &ends);
    }
}

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.samples(name, "gauge", help, &[(&[], value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.samples(name, "counter", help, &[(&[], value)]);
    }

    /// A time, if there is one, in seconds since 1970 UTC as Prometheus expects it.
    fn time(&mut self, name: &str, help: &str, millis: Option<u64>) {
        if let Some(millis) = millis {
            self.gauge(&format!("{name}_timestamp_seconds"), help, seconds(millis));
        }
    }

    fn samples(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: &[(&[(&str, &str)], impl Display)],
    ) {
        let text = &mut self.text;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP psi_{name} {help}\n# TYPE psi_{name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .iter()
                .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
                .collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "psi_{name}{labels} {value}");
        }
    }
}

/// A time as Prometheus expects it.
fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

/// A label's value, with backslash, quote and newline escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_help_and_type_and_labels_are_escaped() {
        let status = StatusResponse {
            version: "1\"2\\3\n4".into(),
            oldest_fetch_ms: Some(1_234_567),
            providers: vec![ProviderStatus { name: "infisical".into(), ..Default::default() }],
            ..StatusResponse::default()
        };
        let text = as_text(&status);
        assert!(text.contains("psi_build_info{version=\"1\\\"2\\\\3\\n4\",backend=\"\"} 1\n"));
        assert!(text.contains("psi_cache_oldest_fetch_timestamp_seconds 1234.567\n"), "{text}");
        assert!(text.contains("psi_provider_up{provider=\"infisical\"} NaN\n"), "{text}");
        let mut typed = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ").and_then(|line| line.split(' ').next()) {
                Some(name) => typed = name,
                None if line.starts_with("# HELP psi_") => {}
                None => {
                    let name = line.split(['{', ' ']).next().unwrap();
                    assert_eq!(name, typed, "{line}");
                    let value = line.rsplit(' ').next().unwrap();
                    assert!(value.parse::<f64>().is_ok(), "{line}");
                }
            }
        }
    }
}
