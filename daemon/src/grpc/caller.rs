//! The caller of a request, and what the trail records of its calls.

use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tonic::{Code, Request, Status};

use crate::lookup::{SecretSelector, Service, Value};
use crate::model::clock::{self, Now};
use crate::model::reference::Reference;
use crate::sys::peer_process::PeerProcess;
use crate::trail::{Actor, Event, Record, Trail, TrailSubject, Use};

/// The peer of a connection, with the trail of its calls.
#[derive(Clone)]
pub(super) struct ConnectedPeer {
    credentials: Option<UCred>,
    process: Arc<PeerProcess>,
    trail: Arc<Trail>,
}

impl ConnectedPeer {
    /// The peer of a stream.
    pub(super) fn of(stream: &UnixStream, trail: &Arc<Trail>) -> Self {
        let credentials = stream.peer_cred().ok();
        let pid = credentials.as_ref().and_then(UCred::pid);
        let process = Arc::new(PeerProcess::of(stream, pid));
        Self { credentials, process, trail: Arc::clone(trail) }
    }

    /// Its uid and gid, from the kernel.
    pub(super) fn ids(&self) -> Option<(u32, u32)> {
        self.credentials.map(|peer| (peer.uid(), peer.gid()))
    }

    /// Its user and unit.
    fn actor(&self) -> Actor {
        Actor { uid: self.ids().map(|(uid, _)| uid), unit: self.process.unit() }
    }
}

/// A call of which the trail records the outcome.
pub(super) struct RecordedCall(Option<(Arc<Trail>, Actor)>);

impl RecordedCall {
    /// The call of a request. Reads the caller's unit, for psi-driver ends right after the answer.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let caller = request.extensions().get::<ConnectedPeer>();
        Self(caller.map(|caller| (Arc::clone(&caller.trail), caller.actor())))
    }

    /// Records an event with the outcome of its call.
    pub(super) fn ended<T>(self, event: Event, subject: TrailSubject, result: &Result<T, Status>) {
        if let Some((trail, actor)) = self.0 {
            trail.record(Record::new(event, actor, subject, outcome(result)), clock::now());
        }
    }

    /// Records that its user may not make it.
    pub(super) fn refused(self, call: &'static str, subject: TrailSubject) {
        if let Some((trail, actor)) = self.0 {
            trail.record(Record::refusal(actor, call, subject), clock::now());
        }
    }

    /// Records the first lookup of a value by its caller.
    pub(super) fn looked_up(
        self,
        service: &Service,
        selector: &SecretSelector,
        (found, now): (&Result<Value, Status>, Now),
    ) {
        let Some((trail, actor)) = self.0 else { return };
        let version = found.as_ref().ok().map(|value| service.version_of(value));
        let secret = match selector {
            SecretSelector::Id(id) => TrailSubject::Id(*id),
            // A text that names nothing may be anything, also a value.
            SecretSelector::Name(_) if version.is_none() => TrailSubject::None,
            SecretSelector::Name(name) => subject_of(name),
        };
        trail.used(&Use { actor, secret, version, outcome: outcome(found) }, now);
    }
}

/// A name that denotes a secret: `WORKLOAD--KEY`, or a reference in readable form.
fn subject_of(name: &str) -> TrailSubject {
    match Reference::parse(name.as_bytes()) {
        Some(reference) => TrailSubject::name(&reference.to_string()),
        None => TrailSubject::name(name),
    }
}

/// The outcome of a call, in one word.
fn outcome<T>(result: &Result<T, Status>) -> &'static str {
    match result.as_ref().map_err(Status::code) {
        Ok(_) => "ok",
        Err(Code::InvalidArgument) => "malformed",
        Err(Code::NotFound) => "unknown",
        Err(Code::AlreadyExists) => "exists",
        Err(Code::PermissionDenied) => "denied",
        Err(Code::FailedPrecondition) => "impossible",
        Err(Code::Unavailable) => "unavailable",
        Err(_) => "failed",
    }
}
