//! Who may call: judged by the socket's credentials, which the kernel vouches for, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tonic::service::Interceptor;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use crate::runtime::Runtime;

/// More users than this are counted together: a user with subordinate uids has 65,536 of them.
const COUNTED: usize = 1_024;

/// Judges each call's peer.
#[derive(Clone)]
pub(super) struct Authorizer {
    daemon: Arc<Runtime>,
    refused: Arc<Mutex<Refused>>,
}

/// How often each user was refused.
#[derive(Default)]
struct Refused {
    users: HashMap<u32, u64>,
    /// All users beyond the first so many.
    others: u64,
}

impl Refused {
    /// Counts a refusal; how often that user was refused, or all others were.
    fn count(&mut self, uid: u32) -> u64 {
        let is_counted = self.users.len() < COUNTED || self.users.contains_key(&uid);
        let count = if is_counted { self.users.entry(uid).or_default() } else { &mut self.others };
        *count += 1;
        *count
    }
}

impl Authorizer {
    pub(super) fn new(daemon: Arc<Runtime>) -> Self {
        Self { daemon, refused: Arc::default() }
    }

    pub(super) fn allows(&self, uid: u32, gid: u32) -> bool {
        let access = self.daemon.access.read();
        // The system call last: most callers are named.
        access.uids.contains(&uid) || access.gids.contains(&gid) || uid == own_uid()
    }

    /// The log is told of the first refusal, the second, the fourth and so on: nobody can flood it.
    fn tell(&self, uid: u32, gid: u32) {
        let count = self.refused.lock().count(uid);
        if !count.is_power_of_two() {
            return;
        }
        // The name is in a file, and a worker of the runtime must not wait for a disk.
        tokio::task::spawn_blocking(move || {
            let who = psi_common::passwd::name_of(uid)
                .map_or_else(|| "somebody".into(), |name| format!("user {name}"));
            let times = if count == 1 { "once".into() } else { format!("{count} times") };
            tracing::warn!(
                uid,
                gid,
                count,
                "refused {who} (uid {uid}, gid {gid}), whom [access] does not allow, {times} so far"
            );
        });
    }
}

/// Who calls, as the kernel says: uid and gid.
fn peer<T>(request: &Request<T>) -> Option<(u32, u32)> {
    let peer = request.extensions().get::<UdsConnectInfo>()?.peer_cred?;
    Some((peer.uid(), peer.gid()))
}

/// Refuses whoever may use secrets, and is neither root nor psid's own user: keys, every workload's
/// registrations, and what the whole host depends on are no affair of theirs.
pub(super) fn require_admin<T>(request: &Request<T>) -> Result<(), Status> {
    match peer(request) {
        Some((uid, _)) if uid == 0 || uid == own_uid() => Ok(()),
        _ => Err(Status::permission_denied(
            "[access] lets you use secrets, and this is for root and psid's own user; ask root",
        )),
    }
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

impl Interceptor for Authorizer {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let (uid, gid) = peer(&request).ok_or_else(|| {
            Status::permission_denied("the kernel does not say who you are; use the unix socket")
        })?;
        if self.allows(uid, gid) {
            return Ok(request);
        }
        self.tell(uid, gid);
        Err(Status::permission_denied(format!(
            "uid {uid} (gid {gid}) may not use this psid; add it to allow_uids or allow_gids in [access]"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNTED, Refused};

    #[test]
    fn refusals_of_ever_new_users_take_no_more_memory() {
        let mut refused = Refused::default();
        for uid in 0..100_000 {
            refused.count(uid);
        }
        assert_eq!(refused.users.len(), COUNTED);
        assert_eq!((refused.count(0), refused.count(99_999)), (2, 100_000 - COUNTED as u64 + 1));
    }
}
