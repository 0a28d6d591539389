//! Marks for the workloads whose units are to be restarted: a file in the run directory for each, at which a root unit
//! of systemd runs `psictl apply-changes`. psid itself restarts nothing: it has no privilege to.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use psi_common::check;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Runtime;
use crate::model::clock::{self, BootInstant};
use crate::model::principal::Principal;
use crate::provider::upstream::{ChangeAction, Workload};
use crate::sys::files;
use crate::sys::tasks::blocking;
use crate::workloads::changes;

/// How soon a value is noticed that a lookup fetched, and the end of an outage.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long a run of `psictl apply-changes` may take beside the random delay.
const APPLIED_AFTER: Duration = Duration::from_secs(600);

/// What was marked.
#[derive(Default)]
struct Marked {
    /// The last change of each workload that was marked.
    workloads: HashMap<String, BootInstant>,
    /// Whether a change is still to be marked.
    is_waiting: bool,
    /// Until when `psictl apply-changes` may still wait for its turn. An outage that begins before defers it, and the
    /// workload is marked again.
    applied_until: Option<Instant>,
    /// The count of the cache's changes that were looked at.
    seen: Option<u64>,
}

impl Runtime {
    /// Marks the workloads with changed values until `stop`; those that changed before the start too, in this boot.
    pub(super) async fn keep_marking(&self, run: &Path, stop: CancellationToken) {
        let mut refreshes = self.refresher.ended();
        let mut marked = Marked::default();
        loop {
            self.mark_changes(run, &mut marked).await;
            tokio::select! {
                () = stop.cancelled() => return,
                ended = refreshes.changed() => if ended.is_err() { return },
                _ = tokio::time::timeout(INTERVAL, std::future::pending::<()>()) => {}
            }
        }
    }

    async fn mark_changes(&self, run: &Path, marked: &mut Marked) {
        let upstreams = self.service.upstreams();
        let is_asked = |workload: &Workload| workload.on_change.action != ChangeAction::None;
        if !upstreams.workloads.values().any(is_asked) {
            return;
        }
        let count = self.service.cache().changes();
        let now = clock::now();
        let is_applied = marked.applied_until.is_none_or(|until| now.mono >= until);
        if marked.seen == Some(count) && !marked.is_waiting && is_applied {
            return;
        }
        (marked.seen, marked.is_waiting) = (Some(count), false);
        let context = self.self_test_context();
        for workload in changes(&self.service, Principal::Admin, now, &context).await {
            let name = workload.name.as_str();
            let (Some(last), Ok(())) = (workload.last(), check::workload(name)) else { continue };
            if !is_asked(&workload.workload) {
                continue;
            }
            if workload.deferred.is_some() {
                marked.workloads.remove(name);
                marked.is_waiting = true;
                continue;
            }
            if marked.workloads.get(name).is_some_and(|at| *at >= last) {
                continue;
            }
            marked.applied_until = marked
                .applied_until
                .max(Some(now.mono + workload.workload.on_change.max_jitter + APPLIED_AFTER));
            match mark(run, name).await {
                Ok(()) => {
                    tracing::info!(workload = name, "{name} has a changed value");
                    marked.workloads.insert(name.to_owned(), last);
                }
                Err(why) => {
                    tracing::warn!("the change of {name} cannot be marked: {why}");
                    marked.is_waiting = true;
                }
            }
        }
    }
}

/// Leaves the mark of a workload.
async fn mark(run: &Path, name: &str) -> Result<(), String> {
    let directory = run.join("changed");
    let path = directory.join(name);
    let written = blocking(move || {
        files::create_private_directory(&directory)
            .and_then(|()| files::replace(&path, b""))
            .map_err(|error| files::problem(&path, &error).to_string())
    });
    written.await.unwrap_or_else(|| Err("it crashed".into()))
}
