//! Who may call: judged by the socket's credentials, which the kernel vouches for, and nothing else.

use std::sync::{Arc, PoisonError};

use tonic::service::Interceptor;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use crate::daemon::Daemon;

/// Judges each call's peer.
#[derive(Clone)]
pub(super) struct Judge {
    daemon: Arc<Daemon>,
    own_uid: u32,
}

impl Judge {
    pub(super) fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon, own_uid: rustix::process::geteuid().as_raw() }
    }

    pub(super) fn allows(&self, uid: u32, gid: u32) -> bool {
        let access = self.daemon.access.read().unwrap_or_else(PoisonError::into_inner);
        uid == self.own_uid || access.uids.contains(&uid) || access.gids.contains(&gid)
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
        tracing::warn!(uid, gid, "refused uid {uid} (gid {gid}), which [access] does not allow");
        Err(Status::permission_denied(format!(
            "uid {uid} (gid {gid}) may not use this psid; add it to allow_uids or allow_gids in [access]"
        )))
    }
}
