//! The table of RPCs and their callers, and its application to each call. Root and psid's own user may call all of them.
//! A user that a workload names may call what [`TABLE`] says, at the users' socket. All other users are refused.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

use super::caller::RecordedCall;
use super::control::Control;
use super::limited_body::{AnswerBody, LimitedBody};
use super::limits::{Unfinished, UserCall, UserConnection};
use super::peer::{Door, Peer, admin_only};
use crate::model::principal::Principal;
use crate::trail::TrailSubject;

/// The use that a user with a workload has of an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserAccess {
    /// None: for root and psid's own user.
    Refused,
    /// For the registrations that the user made; others do not exist.
    OwnRegistrations,
    /// For the workloads that name the user.
    OwnWorkloads,
    /// Without restriction: it says nothing of secrets.
    Any,
}

use UserAccess::{Any, OwnRegistrations, OwnWorkloads, Refused};

/// Each RPC of psid. One that is not listed is refused to users, and a test fails.
#[rustfmt::skip]
pub(super) const TABLE: [(&str, UserAccess); 24] = [
    ("/grpc.health.v1.Health/Check",            Any),
    ("/grpc.health.v1.Health/Watch",            Any),
    ("/psi.v1.SecretDriver/Lookup",             OwnRegistrations),
    ("/psi.v1.SecretDriver/Store",              OwnRegistrations),
    ("/psi.v1.SecretDriver/Delete",             OwnRegistrations),
    ("/psi.v1.SecretDriver/List",               OwnRegistrations),
    ("/psi.v1.SecretDriver/Restore",            OwnRegistrations),
    ("/psi.v1.SecretDriver/Restorable",         OwnRegistrations),
    ("/psi.v1.CacheAdmin/Status",               OwnRegistrations),
    ("/psi.v1.CacheAdmin/Refresh",              OwnWorkloads),
    ("/psi.v1.CacheAdmin/Drill",                Refused),
    ("/psi.v1.CacheAdmin/Invalidate",           Refused),
    ("/psi.v1.CacheAdmin/Rekey",                Refused),
    ("/psi.v1.CacheAdmin/Recover",              Refused),
    ("/psi.v1.CacheAdmin/MakeRecoveryKey",      Refused),
    ("/psi.v1.HsmAdmin/Seal",                   Refused),
    ("/psi.v1.HsmAdmin/HsmStatus",              Refused),
    ("/psi.v1.ProviderAdmin/Login",             Refused),
    ("/psi.v1.WorkloadAdmin/Plan",              OwnWorkloads),
    ("/psi.v1.WorkloadAdmin/Registrations",     OwnRegistrations),
    ("/psi.v1.WorkloadAdmin/Repoint",           OwnRegistrations),
    ("/psi.v1.WorkloadAdmin/NoteNames",         OwnRegistrations),
    ("/psi.v1.WorkloadAdmin/Changes",           OwnWorkloads),
    ("/psi.v1.ImportAdmin/Import",              Refused),
];

/// Authorizes each call by its peer and the table.
#[derive(Clone)]
pub(super) struct Authorizer {
    daemon: Arc<dyn Control>,
}

impl Authorizer {
    pub(super) fn new(daemon: Arc<dyn Control>) -> Self {
        Self { daemon }
    }

    /// Authorizes the calls of a service.
    pub(super) fn before<S>(&self, service: S) -> Authorized<S> {
        Authorized { service, authorizer: self.clone() }
    }

    /// Whether any call of a peer is authorized.
    pub(super) fn knows(&self, peer: &Peer) -> bool {
        peer.is_admin()
            || (peer.door == Door::Users && self.daemon.service().is_workload_user(peer.uid))
    }

    /// The caller, as whom a call of `path` is answered.
    fn authorize(&self, peer: Option<&Peer>, path: &str) -> Result<Principal, Status> {
        let peer = peer.ok_or_else(|| {
            Status::permission_denied("the call has no peer credentials; connect to psid's socket")
        })?;
        if peer.is_admin() {
            return Ok(Principal::Admin);
        }
        let (call, access) = row(path);
        let (call, refused) = match (self.knows(peer), access) {
            (true, OwnRegistrations | OwnWorkloads | Any) => return Ok(Principal::User(peer.uid)),
            (true, Refused) => (call, admin_only()),
            (false, _) => ("any call", stranger(peer)),
        };
        RecordedCall::by(self.daemon.trail(), Some(peer)).refused(call, TrailSubject::None);
        Err(refused)
    }
}

/// The row of an RPC.
fn row(path: &str) -> (&'static str, UserAccess) {
    TABLE.iter().find(|(row, _)| *row == path).copied().unwrap_or(("an unknown call", Refused))
}

fn stranger(peer: &Peer) -> Status {
    let uid = peer.uid;
    Status::permission_denied(match peer.door {
        Door::Users => format!(
            "uid {uid} is not the user of a workload; user = {uid} in a [workloads.NAME] of psid's config makes it one"
        ),
        Door::Admin => format!(
            "uid {uid} may not use this socket; the users of workloads have /run/psi/users.sock"
        ),
    })
}

/// A user's call once it is its turn, with a request that must arrive whole.
async fn limited(
    connection: &Arc<UserConnection>,
    request: http::Request<Body>,
) -> Result<(UserCall, http::Request<Body>), Status> {
    let call = connection.begin()?;
    connection.limits.wait_turn(cost(request.uri().path())).await?;
    let unfinished = Unfinished::new(&connection.limits);
    Ok((call, request.map(|body| Body::new(LimitedBody::new(body, unfinished)))))
}

/// What a call costs beside a lookup by id, which costs one.
fn cost(path: &str) -> u32 {
    match path.rsplit('/').next() {
        Some("Lookup" | "Check") => 1,
        Some("Store" | "Delete" | "Restore" | "Repoint" | "NoteNames") => 10,
        _ => 50,
    }
}

/// A service whose calls are authorized.
#[derive(Clone)]
pub(super) struct Authorized<S> {
    service: S,
    authorizer: Authorizer,
}

impl<S> Service<http::Request<Body>> for Authorized<S>
where
    S: Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future = BoxFuture<http::Response<Body>, Infallible>,
        > + Clone
        + Send
        + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let connection = peer.and_then(|peer| peer.connection.clone());
        let caller = match self.authorizer.authorize(peer, request.uri().path()) {
            Ok(caller) => caller,
            Err(status) => return Box::pin(ready(Ok(status.into_http()))),
        };
        request.extensions_mut().insert(caller);
        let connection = match (caller, connection) {
            (Principal::Admin, _) => return self.service.call(request),
            (Principal::User(_), Some(connection)) => connection,
            (Principal::User(_), None) => {
                // It was accepted when no workload named the user.
                let status = Status::unavailable("the config changed; run it again");
                return Box::pin(ready(Ok(status.into_http())));
            }
        };
        let mut service = self.service.clone();
        Box::pin(async move {
            match limited(&connection, request).await {
                Ok((call, request)) => {
                    let answer = service.call(request).await?;
                    Ok(answer.map(|body| Body::new(AnswerBody::new(body, call))))
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl<S: NamedService> NamedService for Authorized<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The RPCs of the proto file.
    fn rpcs() -> BTreeSet<String> {
        let proto = include_str!("../../../proto/psi/v1/psi.proto");
        let (mut service, mut found) = ("", BTreeSet::new());
        for line in proto.lines() {
            let mut words = line.trim_start().split([' ', '(']);
            match (words.next(), words.next()) {
                (Some("service"), Some(name)) => service = name,
                (Some("rpc"), Some(name)) => {
                    found.insert(format!("/psi.v1.{service}/{name}"));
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn table_has_one_row_for_each_rpc() {
        let rows: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(rows.len(), TABLE.len(), "a row twice");
        let health = ["Check", "Watch"].map(|name| format!("/grpc.health.v1.Health/{name}"));
        let expected: BTreeSet<String> = rpcs().into_iter().chain(health).collect();
        assert!(expected.len() > 20);
        assert_eq!(rows, expected);
    }

    #[test]
    fn call_without_a_row_is_refused_to_users() {
        assert_eq!(row("/psi.v1.CacheAdmin/New").1, Refused);
        assert_eq!(row("").1, Refused);
    }
}
