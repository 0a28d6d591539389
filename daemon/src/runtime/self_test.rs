//! The self-test: at the start and after each refresh, psid checks whether each registered secret would resolve in an
//! outage of the providers, so that an admin learns of an incomplete cache before an outage.

use std::time::Duration;

use psi_common::SecretId;
use tokio_util::sync::CancellationToken;

use super::Runtime;
use crate::lookup::{Certainty, OutageReport, SelfTestContext};
use crate::model::clock::{self, Now};
use crate::model::reach::Reach;

/// The number of ids in the log.
const MAX_IDS: usize = 10;
/// How long the token may take to answer; a monitor gives up after 3 s.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(1);

impl Runtime {
    /// The secrets that would not resolve in an outage of the providers, and those of which psid does not know it.
    pub async fn outage_report(&self, now: Now) -> OutageReport {
        self.probe_token().await;
        self.service.self_test(now, &self.self_test_context())
    }

    /// Updates the state of an open token. A token that was never used stays closed: a login tries the PIN.
    async fn probe_token(&self) {
        if let Some(token) = self.token()
            && token.reach() == Reach::Ready
        {
            // The token keeps the result, which `reach` returns.
            let _ = token.with_timeout(TOKEN_TIMEOUT).public_key().await;
        }
    }

    /// The state that decides, beside the cache, whether a secret would resolve.
    pub fn self_test_context(&self) -> SelfTestContext {
        let opening = "the key is still being opened, and secrets that need it are not known yet; ask again in a moment";
        let invalidated_unconfirmed =
            (!self.service.readiness().is_ready()).then(|| opening.to_owned());
        let key = match (&self.backend, self.keyring()) {
            (Some(backend), Some(_)) => backend.reach(),
            _ => invalidated_unconfirmed.clone().map_or(Reach::Out, Reach::Unknown),
        };
        SelfTestContext { persisted: self.persists_now(), key, invalidated_unconfirmed }
    }

    /// Whether the cache file holds the values in RAM. A pending change counts as written, unless the last write
    /// failed; a removed file does not.
    fn persists_now(&self) -> bool {
        self.persister().is_some_and(|persister| {
            persister.state().error.is_none()
                && (self.cache_path.exists() || !persister.is_current())
        })
    }

    /// Tests until `stop`, and logs each changed result.
    pub async fn keep_testing(&self, stop: CancellationToken) {
        let mut refreshes = self.refresher.ended();
        let mut logged = None;
        loop {
            let report = self.outage_report(clock::now()).await;
            if report.registered > 0 && logged.as_ref() != Some(&report) {
                log(&report);
                logged = Some(report);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                ended = refreshes.changed() => if ended.is_err() { return },
            }
        }
    }
}

fn log(report: &OutageReport) {
    let OutageReport { registered, now, after_reboot, unknown_why } = report;
    let unknown = now.perhaps.len().max(after_reboot.perhaps.len());
    match (now.verdict(), after_reboot.verdict()) {
        (Certainty::Yes, Certainty::Yes) => tracing::info!(
            registered,
            "self-test: with no provider in reach, each of the {registered} registered secrets would \
             resolve, now and after a reboot"
        ),
        (Certainty::No, _) | (_, Certainty::No) => tracing::warn!(
            registered,
            would_fail_now = now.surely.len(),
            would_fail_after_reboot = after_reboot.surely.len(),
            unknown,
            "self-test: with no provider in reach, of the {registered} registered secrets {} would not resolve now{} \
             and {} would not after a reboot{}; run `psictl cache refresh`, then `psictl cache status`",
            now.surely.len(),
            id_list(&now.surely),
            after_reboot.surely.len(),
            id_list(&after_reboot.surely)
        ),
        _ => tracing::info!(
            registered,
            unknown,
            "self-test: whether {unknown} of the {registered} registered secrets would resolve with no provider in \
             reach is not known: {}",
            unknown_why.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
        ),
    }
}

fn id_list(ids: &[SecretId]) -> String {
    if ids.is_empty() {
        return String::new();
    }
    let names: Vec<String> = ids.iter().take(MAX_IDS).map(ToString::to_string).collect();
    format!(" ({}{})", names.join(", "), if ids.len() > MAX_IDS { ", …" } else { "" })
}
