//! `psictl cache`: the commands of the cache.

use psi_common::{Exit, Paths};
use psi_proto::v1::{RefreshEvent, RefreshRequest};
use serde::Serialize;

use super::progress::Progress;
use super::{config_in_force, json, keys, names, psid, status};
use crate::client::{Client, Deadline};
use crate::ctl::args::{CacheCommand, InitOptions};
use crate::ctl::wording::counted;
use crate::error::CliError;
use crate::stdio;

pub(crate) fn run(paths: &Paths, command: &CacheCommand) -> Result<(), CliError> {
    match command {
        CacheCommand::Init(options) => init(paths, options),
        CacheCommand::Status { verify, json } => status::run(paths, *verify, *json),
        CacheCommand::Refresh { accept_removals, retry, json } => {
            let request = RefreshRequest { accept_removals: *accept_removals, retry: *retry };
            refresh(paths, &request, *json)
        }
        CacheCommand::Invalidate { target } => invalidate(paths, target),
        CacheCommand::Rekey(seal) => keys::rekey(paths, seal),
        CacheCommand::Recover(seal) => keys::recover(paths, seal),
        CacheCommand::RecoveryKey => keys::make_recovery_key(paths),
    }
}

/// Provisions the key and the cache, which psid does.
fn init(paths: &Paths, options: &InitOptions) -> Result<(), CliError> {
    let mut args = vec!["init", "--tpm2-pcrs", &options.tpm2_pcrs];
    if let Some(backend) = options.backend {
        args.extend(["--backend", backend.name()]);
    }
    if let Some(seal_with) = options.seal_with {
        args.extend(["--seal-with", seal_with.name()]);
    }
    let flags = [
        (options.force, "--force"),
        (options.no_recovery_key, "--no-recovery-key"),
        (options.retry, "--retry"),
    ];
    args.extend(flags.into_iter().filter_map(|(asked, flag)| asked.then_some(flag)));
    psid::run(paths, &args)
}

fn refresh(paths: &Paths, request: &RefreshRequest, json: bool) -> Result<(), CliError> {
    let mut events: Vec<RefreshEvent> = Vec::new();
    let mut progress: Option<Progress> = None;
    Client::new(paths, Deadline::Admin).refresh(request, &mut |event| {
        let sources = usize::try_from(event.sources).unwrap_or_default();
        events.push(event);
        if !json {
            progress.get_or_insert_with(|| Progress::of("sources", sources)).show(events.len());
        }
    })?;
    drop(progress);
    let failed = events.iter().filter(|event| !event.error.is_empty()).count();
    stdio::write_text(&if json { refresh_json(&events) } else { refresh_text(&events) })?;
    let withheld = sum(&events, |event| event.withheld);
    if failed == 0 {
        config_in_force::check(paths)?;
    }
    match (failed, withheld) {
        (0, 0) => Ok(()),
        (0, _) => Err(CliError::new(
            Exit::Drift,
            format!(
                "kept {} that the provider no longer has or has empty",
                counted(withheld, "value")
            ),
            "if that is right, run `psictl cache refresh --accept-removals`",
        )),
        _ => Err(CliError::new(
            Exit::TryLater,
            format!("{failed} of {} sources failed; their entries are kept", events.len()),
            "see the lines above, then run it again",
        )),
    }
}

fn sum(events: &[RefreshEvent], count: impl Fn(&RefreshEvent) -> u64) -> u64 {
    events.iter().map(count).fold(0, u64::saturating_add)
}

fn refresh_text(events: &[RefreshEvent]) -> String {
    let mut text = String::new();
    for event in events {
        let RefreshEvent { source, added, changed, unchanged, removed, withheld, error, .. } =
            event;
        text.push_str(&if error.is_empty() {
            let withheld = match withheld {
                0 => String::new(),
                many => format!(", {many} withheld until it is confirmed (--accept-removals)"),
            };
            format!(
                "{source}: {added} added, {changed} changed, {unchanged} unchanged, {removed} removed{withheld}\n"
            )
        } else {
            format!("{source}: failed: {error}\n")
        });
    }
    match events.len() {
        0 => "nothing to refresh: no workload and no registered reference names a source\n".into(),
        1 => text,
        many => {
            let total = |count: fn(&RefreshEvent) -> u64| sum(events, count);
            text + &format!(
                "{many} sources: {} added, {} changed, {} unchanged, {} removed\n",
                total(|event| event.added),
                total(|event| event.changed),
                total(|event| event.unchanged),
                total(|event| event.removed),
            )
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    added: u64,
    changed: u64,
    unchanged: u64,
    removed: u64,
    withheld: u64,
    failed: usize,
    sources: Vec<Source<'a>>,
}

#[derive(Serialize)]
struct Source<'a> {
    source: &'a str,
    added: u64,
    changed: u64,
    unchanged: u64,
    removed: u64,
    withheld: u64,
    error: Option<&'a str>,
}

fn refresh_json(events: &[RefreshEvent]) -> String {
    let sources: Vec<Source<'_>> = events
        .iter()
        .map(|event| Source {
            source: &event.source,
            added: event.added,
            changed: event.changed,
            unchanged: event.unchanged,
            removed: event.removed,
            withheld: event.withheld,
            error: (!event.error.is_empty()).then_some(&event.error),
        })
        .collect();
    json::text(&Report {
        added: sum(events, |event| event.added),
        changed: sum(events, |event| event.changed),
        unchanged: sum(events, |event| event.unchanged),
        removed: sum(events, |event| event.removed),
        withheld: sum(events, |event| event.withheld),
        failed: sources.iter().filter(|source| source.error.is_some()).count(),
        sources,
    })
}

fn invalidate(paths: &Paths, target: &str) -> Result<(), CliError> {
    let client = Client::new(paths, Deadline::Probe);
    let existed = names::by_any_name(target, |key| client.invalidate(key))?;
    stdio::write_text(if existed {
        "removed; the next lookup fetches it\n"
    } else {
        "the cache has no such entry\n"
    })
}
