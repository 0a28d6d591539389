//! `psictl cache status`: the daemon's report; if the daemon is down, the header of the cache file.

mod report;
mod text;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use psi_common::{CacheHeader, Exit, Paths};
use psi_proto::v1::{StatusResponse, Tristate};
use serde::Serialize;

use crate::client::{Client, Deadline};
use crate::ctl::changes::{self, Changes};
use crate::ctl::json;
use crate::ctl::names::Known;
use crate::ctl::wording::ago;
use crate::error::CliError;
use crate::stdio;
use report::as_json;
use text::{as_text, size};

pub(crate) fn run(paths: &Paths, verify: bool, wants_json: bool) -> Result<(), CliError> {
    match Client::new(paths, Deadline::Probe).status(verify) {
        Ok(status) => {
            let withheld = status.withheld.iter().flat_map(|withheld| &withheld.ids);
            let fail = status.would_fail_now.iter().chain(&status.would_fail);
            let names = Known::of(paths, fail.chain(&status.unknown).chain(withheld));
            let changes = changes::look(paths, Deadline::Probe);
            stdio::write_text(&if wants_json {
                as_json(&status, &names, &changes)
            } else {
                as_text(&status, &names, now()) + &outdated_lines(&changes)
            })?;
            verified(&status)?;
            if is_well(&status) { Ok(()) } else { Err(CliError::status_only(Exit::Drift)) }
        }
        Err(down) if down.exit() == Exit::NoDaemon && !verify => {
            from_header(paths, wants_json, down)
        }
        Err(failure) => Err(failure),
    }
}

/// The present time, for ages.
#[expect(clippy::disallowed_methods, reason = "ages are relative to the wall clock")]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

/// The units that run with an older value.
fn outdated_lines(changes: &Changes) -> String {
    let units = changes.units();
    let lines = units.iter().map(|unit| format!("OUTDATED   {}\n", unit.problem(now())));
    let unknown = changes.unknown.iter().map(|why| format!("UNKNOWN    {why}\n"));
    lines.chain(unknown).collect()
}

/// Whether nothing is degraded. An unknown state is no degradation; a query that failed is among the reasons.
fn is_well(status: &StatusResponse) -> bool {
    status.degraded.is_empty()
        && status.serves_now() != Tristate::No
        && status.survives_outage() != Tristate::No
        && status.providers.iter().all(|provider| provider.up() != Tristate::No)
}

fn verified(status: &StatusResponse) -> Result<(), CliError> {
    match &status.verify {
        Some(result) if !result.ok => Err(CliError::new(
            Exit::Drift,
            format!("verification failed: {}", result.detail),
            "psid serves from RAM; `psictl cache refresh` writes the file again",
        )),
        _ => Ok(()),
    }
}

fn from_header(paths: &Paths, wants_json: bool, down: CliError) -> Result<(), CliError> {
    let path = paths.cache_file();
    let Ok(mut file) = File::open(&path) else { return Err(down) };
    let read =
        |cause| CliError::io(&format!("reading {}", path.display()), &cause, "run it as root");
    let mut bytes = Vec::with_capacity(CacheHeader::LEN);
    file.by_ref().take(CacheHeader::LEN as u64).read_to_end(&mut bytes).map_err(read)?;
    let meta = file.metadata().map_err(read)?;
    let header = CacheHeader::parse(&bytes).map_err(|error| {
        CliError::new(
            Exit::NoDaemon,
            format!("psid is down, and {} is {error}", path.display()),
            "start psid with `systemctl start psid`; it sets the file aside and fetches from the provider",
        )
    })?;
    let written = meta.modified().ok();
    stdio::write_text(&if wants_json {
        json::text(&DownReport {
            daemon: "down",
            reason: down.to_string(),
            backend: header.backend.name(),
            path: &path,
            size_bytes: meta.len(),
            format_version: header.version,
            last_write_ms: written.and_then(ms_since_epoch),
        })
    } else {
        let written = written
            .and_then(|time| now().duration_since(time).ok())
            .map_or_else(String::new, |age| format!(", written {}", ago(age)));
        format!(
            "daemon     down: {down}\ncache      {} ({}, format {}, {}{written})\n",
            path.display(),
            header.backend,
            header.version,
            size(meta.len()),
        )
    })?;
    Err(CliError::status_only(Exit::NoDaemon))
}

#[derive(Serialize)]
struct DownReport<'a> {
    daemon: &'static str,
    reason: String,
    backend: &'static str,
    path: &'a Path,
    size_bytes: u64,
    format_version: u8,
    last_write_ms: Option<u64>,
}

fn ms_since_epoch(time: SystemTime) -> Option<u64> {
    let age = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(age.as_millis()).ok()
}
