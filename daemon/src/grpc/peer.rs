//! The process at the other end of a connection, by the peer credentials of the socket (SO_PEERCRED), which the kernel
//! provides, and nothing else.

use std::sync::Arc;

use nix::unistd::geteuid;
use tokio::net::UnixStream;
use tonic::{Request, Status};

use super::limits::{UserConnection, UserLimits};
use crate::model::principal::Principal;
use crate::sys::peer_process::PeerProcess;

/// The socket that a connection came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Root's and psid's own user's, `psid.sock`.
    Admin,
    /// That of the users that workloads name, `users.sock`.
    Users,
}

/// The caller of a connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pid: Option<i32>,
    pub(super) door: Door,
    /// The process that connected, if the connection was accepted.
    pub(super) process: Option<Arc<PeerProcess>>,
    /// Its connection, if it is a user's.
    pub(super) connection: Option<Arc<UserConnection>>,
}

impl Peer {
    /// The peer of a connection, which is not accepted yet.
    pub(super) fn of(stream: &UnixStream, door: Door) -> Option<Self> {
        let credentials = stream.peer_cred().ok()?;
        let (uid, pid) = (credentials.uid(), credentials.pid());
        Some(Self { uid, pid, door, process: None, connection: None })
    }

    /// The peer of an accepted connection.
    pub(super) fn accepted(self, stream: &UnixStream) -> Self {
        Self { process: Some(Arc::new(PeerProcess::of(stream, self.pid))), ..self }
    }

    /// Whether it is root or psid's own user.
    pub(super) fn is_admin(&self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }
}

/// What a user's call may use; none for an admin's.
pub(super) fn user_limits<T>(request: &Request<T>) -> Option<Arc<UserLimits>> {
    let peer = request.extensions().get::<Peer>()?;
    peer.connection.as_ref().map(|connection| Arc::clone(&connection.limits))
}

/// The caller of an authorized call.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Principal, Status> {
    let caller = request.extensions().get::<Principal>().copied();
    caller.ok_or_else(|| Status::internal("the call was not authorized; report it"))
}

/// Refuses a user's option that only an admin may use.
pub(super) fn require_admin(caller: Principal) -> Result<(), Status> {
    match caller {
        Principal::Admin => Ok(()),
        Principal::User(_) => Err(admin_only()),
    }
}

pub(super) fn admin_only() -> Status {
    Status::permission_denied("only root and psid's own user may do this; run it as root")
}
