//! `psi-driver cache status`: what the daemon tells, or the file's header when it is down.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, SystemTime};

use psi_common::{CacheHeader, Exit, Paths};
use psi_proto::v1::StatusResponse;
use serde_json::{Value, json};

use crate::client::{Client, Patience};
use crate::failure::Failure;
use crate::stdio;

pub(crate) fn run(paths: &Paths, verify: bool, json: bool) -> Result<(), Failure> {
    match Client::new(paths, Patience::Probe).status(verify) {
        Ok(status) => {
            stdio::write_text(&if json { as_json(&status) } else { as_text(&status, now()) })?;
            verified(&status)
        }
        Err(down) if down.exit() == Exit::NoDaemon && !verify => from_header(paths, json, down),
        Err(failure) => Err(failure),
    }
}

#[expect(clippy::disallowed_methods, reason = "ages are told against the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn verified(status: &StatusResponse) -> Result<(), Failure> {
    match &status.verify {
        Some(result) if !result.ok => Err(Failure::new(
            Exit::BadInput,
            format!("verification failed: {}", result.detail),
            "psid keeps serving from RAM and writes the file anew at the next change",
        )),
        _ => Ok(()),
    }
}

fn from_header(paths: &Paths, json: bool, down: Failure) -> Result<(), Failure> {
    let path = paths.cache_file();
    let Ok(mut file) = File::open(&path) else { return Err(down) };
    let read =
        |cause| Failure::io(&format!("reading {}", path.display()), &cause, "run it as root");
    let mut begin = Vec::with_capacity(CacheHeader::LEN);
    file.by_ref().take(CacheHeader::LEN as u64).read_to_end(&mut begin).map_err(read)?;
    let meta = file.metadata().map_err(read)?;
    let header = CacheHeader::parse(&begin).map_err(|error| {
        Failure::new(
            Exit::BadInput,
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
    })
}

fn as_text(status: &StatusResponse, now: SystemTime) -> String {
    let since = |ms: u64| {
        ago(now
            .duration_since(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
            .unwrap_or_default())
    };
    let until = |ms: u64| {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        match at.duration_since(now).unwrap_or_default().as_secs() {
            0 => "now".to_owned(),
            seconds => format!("in {seconds} s"),
        }
    };
    let mut text = String::new();
    let mut line = |label: &str, words: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{label:<10} {words}");
    };
    line("daemon", format!("psid {}", status.version));
    line(
        "cache",
        match (status.size_bytes, status.format_version) {
            (Some(bytes), Some(version)) => format!(
                "{} ({}, format {version}, generation {}, {}, written {})",
                status.path,
                if status.backend.is_empty() { "no backend" } else { &status.backend },
                status.generation,
                size(bytes),
                status.last_write_ms.map_or_else(|| "never".into(), since),
            ),
            _ if status.backend.is_empty() => "none: live lookups only".into(),
            _ => format!("{} ({}, not written yet)", status.path, status.backend),
        },
    );
    line(
        "entries",
        match (status.oldest_fetch_ms, status.newest_fetch_ms) {
            (Some(oldest), Some(newest)) => {
                format!(
                    "{}, fetched {} (oldest) and {} (newest)",
                    status.entries,
                    since(oldest),
                    since(newest)
                )
            }
            _ => status.entries.to_string(),
        },
    );
    if !status.backend.is_empty() && !status.has_recovery_key {
        line("recovery", "no recovery key; `psi-driver cache recovery-key` makes one".into());
    }
    line("registered", format!("{} references, {} literals", status.references, status.literals));
    line("lookups", format!("{} from RAM, {} from a provider", status.hits, status.misses));
    line(
        "outage",
        if status.survives_outage {
            "a reboot now, with no provider in reach, would serve every registered secret".into()
        } else {
            let more = status.would_fail_count.saturating_sub(status.would_fail.len() as u64);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!(
                "a reboot now, with no provider in reach, would NOT serve {}{more}",
                status.would_fail.join(", ")
            )
        },
    );
    if let Some(refresh) = &status.last_refresh {
        line(
            "refresh",
            format!(
                "{}: {} added, {} changed, {} unchanged, {} removed, {} failed",
                since(refresh.at_ms),
                refresh.added,
                refresh.changed,
                refresh.unchanged,
                refresh.removed,
                refresh.failed.len(),
            ),
        );
        for failed in &refresh.failed {
            line("", format!("failed: {failed}"));
        }
    }
    for provider in &status.providers {
        line(
            "provider",
            if provider.up {
                format!("{}: up", provider.name)
            } else {
                format!(
                    "{}: OUT since {}, next try {}: {}",
                    provider.name,
                    provider.out_since_ms.map_or_else(|| "?".into(), since),
                    provider.next_try_ms.map_or_else(|| "?".into(), until),
                    provider.why,
                )
            },
        );
    }
    for reason in &status.degraded {
        line("DEGRADED", reason.clone());
    }
    if let Some(verify) = &status.verify {
        line("verify", format!("{}: {}", if verify.ok { "ok" } else { "FAILED" }, verify.detail));
    }
    text
}

fn as_json(status: &StatusResponse) -> String {
    let providers: Vec<Value> = status
        .providers
        .iter()
        .map(|provider| {
            json!({
                "name": provider.name,
                "up": provider.up,
                "out_since_ms": provider.out_since_ms,
                "why": (!provider.up).then_some(&provider.why),
                "next_try_ms": provider.next_try_ms,
            })
        })
        .collect();
    let report = json!({
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
        "misses": status.misses,
        "has_recovery_key": status.has_recovery_key,
        "survives_outage": status.survives_outage,
        "would_fail": status.would_fail,
        "would_fail_count": status.would_fail_count,
        "last_refresh": status.last_refresh.as_ref().map(|refresh| json!({
            "at_ms": refresh.at_ms,
            "added": refresh.added,
            "changed": refresh.changed,
            "unchanged": refresh.unchanged,
            "removed": refresh.removed,
            "failed": refresh.failed,
        })),
        "providers": providers,
        "degraded": status.degraded,
        "verify": status.verify.as_ref().map(|verify| json!({
            "ok": verify.ok,
            "detail": verify.detail,
        })),
    });
    format!("{report:#}\n")
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        0 => "just now".into(),
        seconds @ 1..120 => format!("{seconds} s ago"),
        seconds @ 120..7_200 => format!("{} min ago", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_read_well() {
        let told = |seconds| ago(Duration::from_secs(seconds));
        assert_eq!(
            [told(0), told(90), told(600), told(7_200), told(400_000)],
            ["just now", "90 s ago", "10 min ago", "2 h ago", "4 days ago"]
        );
        assert_eq!([size(5), size(2_048), size(5 << 20)], ["5 B", "2 KiB", "5 MiB"]);
    }
}
