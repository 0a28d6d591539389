//! Who may call: judged by the socket's credentials, which the kernel vouches for, and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::service::Interceptor;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use crate::daemon::Daemon;

/// Judges each call's peer.
#[derive(Clone)]
pub(super) struct Judge {
    daemon: Arc<Daemon>,
    own_uid: u32,
    refused: Arc<Mutex<HashMap<u32, u64>>>,
}

impl Judge {
    pub(super) fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon, own_uid: rustix::process::geteuid().as_raw(), refused: Arc::default() }
    }

    pub(super) fn allows(&self, uid: u32, gid: u32) -> bool {
        let access = self.daemon.access.read().unwrap_or_else(PoisonError::into_inner);
        uid == self.own_uid || access.uids.contains(&uid) || access.gids.contains(&gid)
    }

    /// The log is told of the first refusal, the second, the fourth and so on: nobody can flood it.
    fn tell(&self, uid: u32, gid: u32) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(uid).or_default();
        *count += 1;
        if count.is_power_of_two() {
            tracing::warn!(
                uid,
                gid,
                count,
                "refused uid {uid} (gid {gid}), which [access] does not allow, {count} times so far"
            );
        }
    }
}

impl Interceptor for Judge {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let (uid, gid) = peer.map(|peer| (peer.uid(), peer.gid())).ok_or_else(|| {
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
