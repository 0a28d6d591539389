//! What the trail records of a call.

use std::sync::Arc;

use tonic::{Code, Request, Status};

use super::peer::Peer;
use crate::lookup::{SecretSelector, Service, Value};
use crate::model::clock::{self, Now};
use crate::model::reference::Reference;
use crate::trail::{Actor, Event, Record, Trail, TrailSubject, Use};

/// A call of which the trail records the outcome.
pub(super) struct RecordedCall {
    trail: Arc<Trail>,
    actor: Actor,
}

impl RecordedCall {
    /// The call of a request.
    pub(super) fn of<T>(trail: &Arc<Trail>, request: &Request<T>) -> Self {
        Self::by(trail, request.extensions().get::<Peer>())
    }

    /// A call of a peer. Reads the caller's unit, for psi-driver ends right after the answer.
    pub(super) fn by(trail: &Arc<Trail>, peer: Option<&Peer>) -> Self {
        let unit = peer.and_then(|peer| peer.process.as_ref()?.unit());
        let actor = Actor { uid: peer.map(|peer| peer.uid), unit };
        Self { trail: Arc::clone(trail), actor }
    }

    /// Records an event with the outcome of its call.
    pub(super) fn ended<T>(self, event: Event, subject: TrailSubject, result: &Result<T, Status>) {
        let record = Record::new(event, self.actor, subject, outcome(result));
        self.trail.record(record, clock::now());
    }

    /// Records that its user may not make it.
    pub(super) fn refused(self, call: &'static str, subject: TrailSubject) {
        self.trail.record(Record::refusal(self.actor, call, subject), clock::now());
    }

    /// Records the first lookup of a value by its caller.
    pub(super) fn looked_up(
        self,
        service: &Service,
        selector: &SecretSelector,
        (found, now): (&Result<Value, Status>, Now),
    ) {
        let version = found.as_ref().ok().map(|value| service.version_of(value));
        let secret = match selector {
            SecretSelector::Id(id) => TrailSubject::Id(*id),
            // A text that names nothing may be anything, also a value.
            SecretSelector::Name(_) if version.is_none() => TrailSubject::None,
            SecretSelector::Name(name) => subject_of(name),
        };
        self.trail.used(&Use { actor: self.actor, secret, version, outcome: outcome(found) }, now);
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
