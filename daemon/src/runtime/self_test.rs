//! The self-test: at the start and after each refresh, every registered secret is tried without a
//! network. A cache that would be of no use in an outage must not be found out in the outage.

use std::time::Duration;

use psi_common::SecretId;
use tokio_util::sync::CancellationToken;

use super::Runtime;
use crate::lookup::{Certainty, OutageReport, SelfTestContext};
use crate::model::clock::{self, Now};
use crate::model::reach::Reach;

/// How many ids the log names.
const NAMED: usize = 10;
/// How long a token may take for the answer that it is there; a monitor gives up after 3 s.
const LOOK: Duration = Duration::from_secs(1);

impl Runtime {
    /// What would not resolve with no provider in reach, and what psid does not know of that.
    pub async fn offline(&self, now: Now) -> OutageReport {
        self.look_at_token().await;
        self.service.self_test(now, &self.circumstances())
    }

    /// Whether a token that is open still is there, with its key. One that was never asked is left alone: to
    /// open it is a try of the PIN.
    async fn look_at_token(&self) {
        if let Some(token) = self.token()
            && token.reach() == Reach::Ready
        {
            // What it finds is noted where the verdict is taken from.
            let _ = token.with_timeout(LOOK).public_key().await;
        }
    }

    /// What decides beside the cache whether a secret would resolve.
    pub fn circumstances(&self) -> SelfTestContext {
        let opening = "the key is still being opened, and what needs it is not known yet; ask again in a moment";
        let invalidated_unconfirmed =
            (!self.service.readiness.is_ready()).then(|| opening.to_owned());
        let key = match (&self.backend, self.keyring()) {
            (Some(backend), Some(_)) => backend.reach(),
            _ => invalidated_unconfirmed.clone().map_or(Reach::Out, Reach::Unknown),
        };
        SelfTestContext { persisted: self.persists_now(), key, invalidated_unconfirmed }
    }

    /// Whether what is in RAM is on the disk. A change that is about to be written counts as written; one
    /// that cannot be, does not, nor does a file that somebody removed.
    fn persists_now(&self) -> bool {
        self.persister().is_some_and(|persister| {
            persister.state().error.is_none()
                && (self.cache_path.exists() || !persister.is_current())
        })
    }

    /// Tests until `stop`, and tells the log of each change.
    pub async fn keep_testing(&self, stop: CancellationToken) {
        let mut refreshes = self.refresher.ended();
        let mut told = None;
        loop {
            let found = self.offline(clock::now()).await;
            if found.registered > 0 && told.as_ref() != Some(&found) {
                tell(&found);
                told = Some(found);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                ended = refreshes.changed() => if ended.is_err() { return },
            }
        }
    }
}

fn tell(found: &OutageReport) {
    let OutageReport { registered, now, after_reboot, unknown_why } = found;
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
             and {} would not after a reboot{}; try `psictl cache refresh`, and see `psictl cache status`",
            now.surely.len(),
            named(&now.surely),
            after_reboot.surely.len(),
            named(&after_reboot.surely)
        ),
        _ => tracing::info!(
            registered,
            unknown,
            "self-test: of {unknown} of the {registered} registered secrets psid does not know whether they would \
             resolve with no provider in reach: {}",
            unknown_why.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
        ),
    }
}

fn named(ids: &[SecretId]) -> String {
    if ids.is_empty() {
        return String::new();
    }
    let names: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
    format!(" ({}{})", names.join(", "), if ids.len() > NAMED { ", …" } else { "" })
}
