//! The self-test: at the start and after each refresh, every registered secret is tried without a
//! network. A cache that would be of no use in an outage must not be found out in the outage.

use psi_common::SecretId;
use tokio_util::sync::CancellationToken;

use super::Daemon;
use crate::clock::{self, Moment};
use crate::service::Offline;

/// How many ids the log names.
const NAMED: usize = 10;

impl Daemon {
    /// The registered ids that would not resolve with no provider in reach.
    pub fn offline(&self, now: Moment) -> Offline {
        self.service.self_test(now, self.persists_now())
    }

    /// Whether what is in RAM is on the disk. A change that is about to be written counts as written; one
    /// that cannot be, does not, nor does a file that somebody removed.
    pub fn persists_now(&self) -> bool {
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
            let (found, registered) =
                (self.offline(clock::now()), self.service.registry.all().len());
            if registered > 0 && told.as_ref() != Some(&found) {
                tell(&found, registered);
                told = Some(found);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                ended = refreshes.changed() => if ended.is_err() { return },
            }
        }
    }
}

fn tell(found: &Offline, registered: usize) {
    let Offline { now, after_reboot } = found;
    if now.is_empty() && after_reboot.is_empty() {
        return tracing::info!(
            registered,
            "self-test: with no provider in reach, each of the {registered} registered secrets would \
             resolve, now and after a reboot"
        );
    }
    tracing::warn!(
        registered,
        would_fail_now = now.len(),
        would_fail_after_reboot = after_reboot.len(),
        "self-test: with no provider in reach, of the {registered} registered secrets {} would not resolve now{} \
         and {} would not after a reboot{}; try `psi-driver cache refresh`, and see `psi-driver cache status`",
        now.len(),
        named(now),
        after_reboot.len(),
        named(after_reboot)
    );
}

fn named(ids: &[SecretId]) -> String {
    if ids.is_empty() {
        return String::new();
    }
    let names: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
    format!(" ({}{})", names.join(", "), if ids.len() > NAMED { ", …" } else { "" })
}
