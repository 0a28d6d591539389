//! The status as text: one line for each topic.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use psi_proto::v1::{
    ExpiringCredential, ProviderStatus, RefreshSummary, StatusResponse, Tristate, WithheldSecret,
};

use crate::ctl::names::Known;
use crate::ctl::wording::{ago, counted};

/// Labelled lines, with ages relative to one time.
struct Lines<'a> {
    text: String,
    now: SystemTime,
    names: &'a Known,
}

pub(super) fn as_text(status: &StatusResponse, names: &Known, now: SystemTime) -> String {
    let mut lines = Lines { text: String::new(), now, names };
    lines.line("daemon", &format!("psid {}", status.version));
    match status.of_user {
        Some(uid) => {
            lines.line("user", &format!("uid {uid}: what follows is of this user's secrets"));
        }
        None => lines.cache(status),
    }
    lines.registered(status);
    lines.outage(status);
    if let Some(refresh) = &status.last_refresh {
        lines.refresh(refresh);
    }
    lines.withheld(&status.withheld, status.withheld_count);
    for provider in &status.providers {
        lines.provider(provider);
        for credential in &provider.credentials {
            lines.credential(credential, &status.degraded);
        }
    }
    if let Some(until) = status.drill_until_ms {
        let until = lines.until(until);
        lines.line("DRILL", &format!("providers are treated as unreachable; it ends {until}"));
    }
    for reason in &status.degraded {
        lines.line("DEGRADED", reason);
    }
    if let Some(verify) = &status.verify {
        let ok = if verify.ok { "ok" } else { "FAILED" };
        lines.line("verify", &format!("{ok}: {}", verify.detail));
    }
    lines.text
}

impl Lines<'_> {
    fn line(&mut self, label: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{label:<10} {value}");
    }

    fn since(&self, ms: u64) -> String {
        let then = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        ago(self.now.duration_since(then).unwrap_or_default())
    }

    fn until(&self, ms: u64) -> String {
        let then = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        match then.duration_since(self.now).unwrap_or_default().as_secs() {
            0 => "now".to_owned(),
            seconds => format!("in {seconds} s"),
        }
    }

    /// The ids with their names, and how many more there are.
    fn and_more(&self, ids: &[String], count: u64) -> String {
        let more = count.saturating_sub(ids.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", self.names.list(ids))
    }

    fn cache(&mut self, status: &StatusResponse) {
        let path = &status.path;
        let backend = if status.backend.is_empty() { "no backend" } else { &status.backend };
        let cache = match (status.size_bytes, status.format_version) {
            (Some(bytes), Some(version)) => format!(
                "{path} ({backend}, format {version}, generation {}, {}, written {})",
                status.generation,
                size(bytes),
                status.last_write_ms.map_or_else(|| "never".into(), |ms| self.since(ms)),
            ),
            _ if status.backend.is_empty() => "none: every lookup asks the provider".into(),
            _ => format!("{path} ({backend}, not written yet)"),
        };
        self.line("cache", &cache);
        if !status.key_bound_to.is_empty() {
            self.line("key", &format!("bound to {}", status.key_bound_to));
        }
        let entries = match (status.oldest_fetch_ms, status.newest_fetch_ms) {
            (Some(oldest), Some(newest)) => format!(
                "{}, fetched {} (oldest) and {} (newest)",
                status.entries,
                self.since(oldest),
                self.since(newest)
            ),
            _ => status.entries.to_string(),
        };
        self.line("entries", &entries);
        if !status.backend.is_empty() && !status.has_recovery_key {
            let none = "no recovery key; `psictl cache recovery-key` creates one";
            self.line("recovery", none);
        }
    }

    fn registered(&mut self, status: &StatusResponse) {
        let StatusResponse { references, literals, hits, stale, misses, failed, .. } = status;
        let (references, literals) =
            (counted(*references, "reference"), counted(*literals, "literal"));
        self.line("registered", &format!("{references}, {literals}"));
        if status.of_user.is_some() {
            return;
        }
        let stale = if *stale > 0 { format!(", {stale} stale") } else { String::new() };
        let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
        self.line("lookups", &format!("{hits} from RAM, {misses} from a provider{stale}{failed}"));
    }

    fn outage(&mut self, status: &StatusResponse) {
        if status.would_fail_now_count > 0 {
            let ids = self.and_more(&status.would_fail_now, status.would_fail_now_count);
            self.line(
                "outage",
                &format!("now, with no provider reachable, psid would NOT serve {ids}"),
            );
        }
        match status.survives_outage() {
            Tristate::Yes => self.line(
                "outage",
                "after a reboot now, with no provider reachable, psid would serve every registered secret",
            ),
            Tristate::No => {
                let ids = self.and_more(&status.would_fail, status.would_fail_count);
                let text =
                    format!("after a reboot now, with no provider reachable, psid would NOT serve {ids}");
                self.line("outage", &text);
            }
            Tristate::Unspecified => {}
        }
        if !status.unknown_reasons.is_empty() {
            let of = match status.unknown_count.max(status.unknown_now_count) {
                0 => String::new(),
                _ if status.unknown.is_empty() => " of some secrets".into(),
                count => format!(" of {}", self.and_more(&status.unknown, count)),
            };
            self.line("outage", &format!("UNKNOWN{of}, with no provider reachable:"));
            for why in &status.unknown_reasons {
                self.line("", why);
            }
        }
    }

    fn refresh(&mut self, refresh: &RefreshSummary) {
        let RefreshSummary { added, changed, unchanged, removed, withheld, .. } = refresh;
        let withheld = if *withheld > 0 { format!(", {withheld} withheld") } else { String::new() };
        let text = format!(
            "{}: {added} added, {changed} changed, {unchanged} unchanged, {removed} removed{withheld}, {} failed",
            self.since(refresh.at_ms),
            refresh.failed.len(),
        );
        self.line("refresh", &text);
        for failed in &refresh.failed {
            self.line("", &format!("failed: {failed}"));
        }
    }

    fn withheld(&mut self, withheld: &[WithheldSecret], count: u64) {
        for WithheldSecret { name, ids, reason, since_ms } in withheld {
            let ids =
                if ids.is_empty() { String::new() } else { format!(" ({})", self.names.list(ids)) };
            let text = format!("{name}{ids}: {reason}, first reported {}", self.since(*since_ms));
            self.line("withheld", &text);
        }
        let more = count.saturating_sub(withheld.len() as u64);
        if more > 0 {
            self.line("withheld", &format!("and {more} more"));
        }
    }

    fn provider(&mut self, provider: &ProviderStatus) {
        let name = &provider.name;
        let text = match (provider.up(), provider.down_since_ms) {
            (Tristate::Yes, _) => format!("{name}: up"),
            (Tristate::Unspecified, _) => format!("{name}: not called yet"),
            (Tristate::No, None) => format!("{name}: OUT: {}", provider.reason),
            (Tristate::No, Some(since)) => format!(
                "{name}: OUT since {}, next try {}: {}",
                self.since(since),
                provider.next_try_ms.map_or_else(|| "?".into(), |ms| self.until(ms)),
                provider.reason,
            ),
        };
        self.line("provider", &text);
    }

    fn credential(&mut self, credential: &ExpiringCredential, degraded: &[String]) {
        let ExpiringCredential { what, remedy, .. } = credential;
        // One that must be replaced now is among the degradations.
        let is_degraded = degraded.iter().any(|reason| reason.starts_with(what.as_str()));
        match remedy.as_str() {
            _ if is_degraded => {}
            "" => self.line("login", what),
            remedy => self.line("login", &format!("{what}; {remedy}")),
        }
    }
}

pub(super) fn size(bytes: u64) -> String {
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
    fn ages_and_sizes_have_fitting_units() {
        let shown = |seconds| ago(Duration::from_secs(seconds));
        assert_eq!(
            [shown(0), shown(90), shown(600), shown(7_200), shown(400_000)],
            ["just now", "90 s ago", "10 min ago", "2 h ago", "4 days ago"]
        );
        assert_eq!([size(5), size(2_048), size(5 << 20)], ["5 B", "2 KiB", "5 MiB"]);
    }
}
