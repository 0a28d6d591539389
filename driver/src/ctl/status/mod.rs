//! `psictl cache status`: what the daemon tells, or the file's header when it is down.

mod report;
mod text;

use std::fs::File;
use std::io::Read;
use std::time::SystemTime;

use psi_common::{CacheHeader, Exit, Paths};
use psi_proto::v1::{StatusResponse, Tristate};
use serde_json::json;

use crate::client::{Client, Deadline};
use crate::error::CliError;
use crate::stdio;
use report::as_json;
use text::{ago, as_text, size};

pub(crate) fn run(paths: &Paths, verify: bool, json: bool) -> Result<(), CliError> {
    match Client::new(paths, Deadline::Probe).status(verify) {
        Ok(status) => {
            stdio::write_text(&if json { as_json(&status) } else { as_text(&status, now()) })?;
            verified(&status)?;
            if is_well(&status) { Ok(()) } else { Err(CliError::status_only(Exit::Drift)) }
        }
        Err(down) if down.exit() == Exit::NoDaemon && !verify => from_header(paths, json, down),
        Err(failure) => Err(failure),
    }
}

#[expect(clippy::disallowed_methods, reason = "ages are told against the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// What is not known yet is no degradation; a look that failed is one, and among its reasons.
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
            "psid keeps serving from RAM and writes the file anew at the next change",
        )),
        _ => Ok(()),
    }
}

fn from_header(paths: &Paths, json: bool, down: CliError) -> Result<(), CliError> {
    let path = paths.cache_file();
    let Ok(mut file) = File::open(&path) else { return Err(down) };
    let read =
        |cause| CliError::io(&format!("reading {}", path.display()), &cause, "run it as root");
    let mut begin = Vec::with_capacity(CacheHeader::LEN);
    file.by_ref().take(CacheHeader::LEN as u64).read_to_end(&mut begin).map_err(read)?;
    let meta = file.metadata().map_err(read)?;
    let header = CacheHeader::parse(&begin).map_err(|error| {
        CliError::new(
            Exit::NoDaemon,
            format!("psid is down, and {} is {error}", path.display()),
            "start psid: it serves live and sets the file aside",
        )
    })?;
    let written = meta.modified().ok();
    stdio::write_text(&if json {
        let report = json!({
            "daemon": "down",
            "reason": down.to_string(),
            "backend": header.backend.name(),
            "path": path,
            "size_bytes": meta.len(),
            "format_version": header.version,
            "last_write_ms": written.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
                .and_then(|age| u64::try_from(age.as_millis()).ok()),
        });
        format!("{report:#}\n")
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
