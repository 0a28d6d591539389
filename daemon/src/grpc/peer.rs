//! Authorization: by the peer credentials of the socket, which the kernel provides, and nothing else.

use std::sync::Arc;

use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::caller::{ConnectedPeer, RecordedCall};
use super::control::Control;
use crate::trail::{Trail, TrailSubject};

/// Authorizes each call by its peer.
#[derive(Clone)]
pub(super) struct Authorizer {
    daemon: Arc<dyn Control>,
}

impl Authorizer {
    pub(super) fn new(daemon: Arc<dyn Control>) -> Self {
        Self { daemon }
    }

    /// Where refusals are recorded.
    pub(super) fn trail(&self) -> &Arc<Trail> {
        self.daemon.trail()
    }

    pub(super) fn allows(&self, uid: u32, gid: u32) -> bool {
        // The system call last: most callers are listed.
        self.daemon.is_listed(uid, gid) || uid == own_uid()
    }
}

/// The caller's uid and gid, from the kernel.
fn peer<T>(request: &Request<T>) -> Option<(u32, u32)> {
    request.extensions().get::<ConnectedPeer>()?.ids()
}

/// Refuses a caller that is neither root nor psid's own user. Users that `[access]` lists may use secrets, but not
/// manage keys or the registrations of all workloads.
pub(super) fn require_admin<T>(request: &Request<T>) -> Result<(), Status> {
    match peer(request) {
        Some((uid, _)) if uid == 0 || uid == own_uid() => Ok(()),
        _ => {
            RecordedCall::of(request).refused("an admin's call", TrailSubject::None);
            Err(Status::permission_denied(
                "only root and psid's own user may do this; run it as root",
            ))
        }
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
        RecordedCall::of(&request).refused("any call", TrailSubject::None);
        Err(Status::permission_denied(format!(
            "uid {uid} (gid {gid}) may not use this psid; add it to allow_uids or allow_gids in [access]"
        )))
    }
}
