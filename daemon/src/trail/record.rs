//! One record, and its fields in the journal: `PSI_EVENT`, `PSI_SECRET_ID`, `PSI_SECRET_NAME`, `PSI_UID`, `PSI_UNIT`,
//! `PSI_OUTCOME`, `PSI_CALL` and `PSI_COUNT`.

use std::sync::Arc;

use psi_common::{SecretId, check};

use crate::lookup::ValueVersion;

/// The longest name of a record's subject: a reference may be as long as a request.
const MAX_NAME: usize = 256;
/// The length of podman's id of a container, in hexadecimal digits.
const CONTAINER_ID: usize = 64;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The first lookup of a value by a user and unit.
    Lookup,
    /// A call that its user may not make.
    Refusal,
    /// A registration was stored.
    Store,
    /// A registration was deleted.
    Delete,
    /// A deleted registration was restored.
    Restore,
    /// A registered reference was replaced.
    Repoint,
    /// A setup asked for its plan.
    Setup,
    /// Secrets were written to a provider.
    Import,
    /// The data key was replaced.
    Rekey,
    /// The data key was opened with the recovery key.
    Recover,
    /// A recovery key was made.
    RecoveryKey,
    /// A simulated outage began.
    Drill,
    /// The config changed.
    Config,
    /// Records were left out.
    LeftOut,
}

/// The caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actor {
    /// The user, from the kernel; none for psid itself, as at a reload.
    pub(crate) uid: Option<u32>,
    /// The unit of the calling process, a hint.
    pub(crate) unit: Option<Arc<str>>,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrailSubject {
    /// Podman's id of a secret.
    Id(SecretId),
    /// A name or a reference, or the directory of an import.
    Name(String),
    /// All secrets.
    None,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) event: Event,
    pub(crate) actor: Actor,
    pub(crate) subject: TrailSubject,
    /// A fixed word: `ok`, or the kind of the error.
    pub(crate) outcome: &'static str,
    /// The call that was refused.
    pub(crate) call: Option<&'static str>,
    /// The number of records that were left out.
    pub(crate) count: Option<u64>,
}

/// A lookup.
pub(crate) struct Use<'a> {
    pub(crate) actor: Actor,
    pub(crate) secret: TrailSubject,
    /// The value, by its version; none if there was none.
    pub(crate) version: Option<ValueVersion<'a>>,
    pub(crate) outcome: &'static str,
}

impl Actor {
    /// Whether it is podman's health check of a container: the transient service `CONTAINER-RANDOM.service`, new with
    /// each start of the container.
    pub(super) fn is_health_check(&self) -> bool {
        let Some(name) = self.unit.as_deref().and_then(|unit| unit.strip_suffix(".service")) else {
            return false;
        };
        // In a user's manager, it follows that manager's own unit.
        let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        name.split_once('-').is_some_and(|(id, random)| {
            id.len() == CONTAINER_ID && is_hex(id) && !random.is_empty() && is_hex(random)
        })
    }
}

impl Use<'_> {
    pub(super) fn is_served(&self) -> bool {
        self.version.is_some()
    }

    pub(super) fn record(&self) -> Record {
        Record::new(Event::Lookup, self.actor.clone(), self.secret.clone(), self.outcome)
    }
}

impl TrailSubject {
    /// A name that the caller gave, on one line and of limited length.
    pub(crate) fn name(text: &str) -> Self {
        let cut: String = text.chars().take(MAX_NAME).collect();
        Self::Name(check::printable(&cut).into_owned())
    }
}

impl Event {
    /// Its word in the journal.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Refusal => "refusal",
            Self::Store => "store",
            Self::Delete => "delete",
            Self::Restore => "restore",
            Self::Repoint => "repoint",
            Self::Setup => "setup",
            Self::Import => "import",
            Self::Rekey => "rekey",
            Self::Recover => "recover",
            Self::RecoveryKey => "recovery-key",
            Self::Drill => "drill",
            Self::Config => "config",
            Self::LeftOut => "left-out",
        }
    }
}

impl Record {
    pub(crate) fn new(
        event: Event,
        actor: Actor,
        subject: TrailSubject,
        outcome: &'static str,
    ) -> Self {
        Self { event, actor, subject, outcome, call: None, count: None }
    }

    /// A refused call.
    pub(crate) fn refusal(actor: Actor, call: &'static str, subject: TrailSubject) -> Self {
        let call = Some(call);
        Self { call, ..Self::new(Event::Refusal, actor, subject, "refused") }
    }

    pub(super) fn left_out(uid: Option<u32>, count: u64) -> Self {
        let count = Some(count);
        let actor = Actor { uid, unit: None };
        Self { count, ..Self::new(Event::LeftOut, actor, TrailSubject::None, "left-out") }
    }

    /// Whether its caller got nothing.
    pub(super) fn is_refusal(&self) -> bool {
        match self.event {
            Event::Refusal => true,
            Event::Lookup => self.outcome != "ok",
            _ => false,
        }
    }

    /// Writes it to the log.
    pub(super) fn write(&self, name: Option<&str>) {
        let message = self.message(name);
        let id = match &self.subject {
            TrailSubject::Id(id) => Some(id.to_string()),
            TrailSubject::Name(_) | TrailSubject::None => None,
        };
        let (secret_id, secret_name) = (id.as_deref(), name);
        let (event, outcome, call) = (self.event.word(), self.outcome, self.call);
        let (uid, unit, count) = (self.actor.uid, self.actor.unit.as_deref(), self.count);
        // A level is a constant of its place.
        macro_rules! write_at {
            ($level:ident) => {
                tracing::$level!(
                    event,
                    secret_id,
                    secret_name,
                    uid,
                    unit,
                    outcome,
                    call,
                    count,
                    "{message}"
                )
            };
        }
        match self.event {
            Event::Refusal | Event::LeftOut => write_at!(warn),
            _ => write_at!(info),
        }
    }

    /// The text for people; the fields have the same content.
    fn message(&self, name: Option<&str>) -> String {
        if let (Event::LeftOut, Some(count)) = (self.event, self.count) {
            let records = if count == 1 { "1 record".into() } else { format!("{count} records") };
            return format!("left {records} of {} out of the trail", self.actor);
        }
        let subject = match (&self.subject, name) {
            (TrailSubject::Id(id), Some(name)) => format!(" of {name} ({id})"),
            (TrailSubject::Id(id), None) => format!(" of {id}"),
            (_, Some(name)) => format!(" of {name}"),
            (_, None) => String::new(),
        };
        let call = self.call.map(|call| format!(" of {call}")).unwrap_or_default();
        format!("{}{call}{subject} by {}: {}", self.event.word(), self.actor, self.outcome)
    }
}

/// For messages.
impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.uid, &self.unit) {
            (None, _) => f.write_str("psid"),
            (Some(uid), None) => write!(f, "uid {uid}"),
            (Some(uid), Some(unit)) => write!(f, "uid {uid} in {unit}"),
        }
    }
}
