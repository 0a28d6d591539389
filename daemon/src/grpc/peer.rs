//! Authorization: by the peer credentials of the socket, which the kernel provides, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tonic::service::Interceptor;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use super::control::Control;

/// The number of users that are counted separately: a user may have 65,536 subordinate uids.
const MAX_COUNTED: usize = 1_024;

/// Authorizes each call by its peer.
#[derive(Clone)]
pub(super) struct Authorizer {
    daemon: Arc<dyn Control>,
    refused: Arc<Mutex<Refused>>,
}

/// The number of refused calls of each user.
#[derive(Default)]
struct Refused {
    users: HashMap<u32, u64>,
    /// Those of all users beyond the first [`MAX_COUNTED`].
    others: u64,
}

impl Refused {
    /// Counts a refused call of a user; the user's count, or that of all others.
    fn count(&mut self, uid: u32) -> u64 {
        let is_counted = self.users.len() < MAX_COUNTED || self.users.contains_key(&uid);
        let count = if is_counted { self.users.entry(uid).or_default() } else { &mut self.others };
        *count += 1;
        *count
    }
}

impl Authorizer {
    pub(super) fn new(daemon: Arc<dyn Control>) -> Self {
        Self { daemon, refused: Arc::default() }
    }

    pub(super) fn allows(&self, uid: u32, gid: u32) -> bool {
        // The system call last: most callers are listed.
        self.daemon.is_listed(uid, gid) || uid == own_uid()
    }

    /// Logs a user's first, second, fourth, eighth … refusal, so that no user can flood the log.
    fn log_refusal(&self, uid: u32, gid: u32) {
        let count = self.refused.lock().count(uid);
        if !count.is_power_of_two() {
            return;
        }
        // The name is read from a file, and a worker of the runtime must not wait for the disk.
        tokio::task::spawn_blocking(move || {
            let user = psi_common::passwd::name_of(uid)
                .map_or_else(|| "an unknown user".into(), |name| format!("user {name}"));
            let calls = if count == 1 { "1 call".into() } else { format!("{count} calls") };
            tracing::warn!(
                uid,
                gid,
                count,
                "{user} (uid {uid}, gid {gid}) is not in [access]: refused {calls} since the start"
            );
        });
    }
}

/// The caller's uid and gid, from the kernel.
fn peer<T>(request: &Request<T>) -> Option<(u32, u32)> {
    let peer = request.extensions().get::<UdsConnectInfo>()?.peer_cred?;
    Some((peer.uid(), peer.gid()))
}

/// Refuses a caller that is neither root nor psid's own user. Users that `[access]` lists may use secrets, but not
/// manage keys or the registrations of all workloads.
pub(super) fn require_admin<T>(request: &Request<T>) -> Result<(), Status> {
    match peer(request) {
        Some((uid, _)) if uid == 0 || uid == own_uid() => Ok(()),
        _ => Err(Status::permission_denied(
            "only root and psid's own user may do this; run it as root",
        )),
    }
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

impl Interceptor for Authorizer {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let (uid, gid) = peer(&request).ok_or_else(|| {
            Status::permission_denied(
                "the call has no peer credentials; connect to psid's unix socket",
            )
        })?;
        if self.allows(uid, gid) {
            return Ok(request);
        }
        self.log_refusal(uid, gid);
        Err(Status::permission_denied(format!(
            "uid {uid} (gid {gid}) may not use this psid; add it to allow_uids or allow_gids in [access]"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_COUNTED, Refused};

    #[test]
    fn refused_users_are_counted_in_bounded_memory() {
        let mut refused = Refused::default();
        for uid in 0..100_000 {
            refused.count(uid);
        }
        assert_eq!(refused.users.len(), MAX_COUNTED);
        assert_eq!(
            (refused.count(0), refused.count(99_999)),
            (2, 100_000 - MAX_COUNTED as u64 + 1)
        );
    }
}
