//! The checks of the messages that only psictl gets; `client::checked` has the rules.

use std::path::Path;

use psi_common::check;
use psi_proto::v1::drill_event::Event as Drilled;
use psi_proto::v1::plan_event::Event as Planned;
use psi_proto::v1::{
    ChangedSecret, ChangedWorkload, DrillEvent, DrillFailure, DrillStarted, ExpiringCredential,
    HsmKey, HsmStatusResponse, HsmToken, ImportResponse, ImportResult, InvalidateResponse, LastUse,
    MakeRecoveryKeyResponse, NoteNamesResponse, PlanEvent, PlannedSecret, PlannedWorkload,
    ProviderStatus, RecoverResponse, RefreshEvent, RefreshSummary, Registration, RekeyResponse,
    RepointResponse, RestorableResponse, RestorableSecret, RestoreResponse, SealResponse,
    StatusResponse, TaskStatus, VerifyResult, WithheldSecret,
};

use super::checked_plan::is_workload;
use crate::client::{Checked, InvalidMessage, Printable, is_id, nothing_to_check, texts};

texts! {
    ChangedSecret { name, used_by }
    ChangedWorkload { name, user, deferred, secrets }
    DrillStarted { would_fail, unknown, unknown_reasons }
    DrillFailure { secret, reason }
    ExpiringCredential { identity, what, remedy }
    WithheldSecret { name, ids, reason }
    HsmKey { label, id }
    HsmStatusResponse { state, last_error, pin, token, key }
    HsmToken { label, manufacturer, model, serial, firmware, pin_status }
    ImportResult { key, reason }
    ImportResponse { target, results }
    InvalidateResponse {}
    MakeRecoveryKeyResponse {}
    NoteNamesResponse {}
    PlannedSecret { key, name, source, warnings, error, target }
    PlannedWorkload {
        name, provider, depends_on, prefix, secrets, incomplete, error, missing, user, kube
    }
    ProviderStatus { name, reason, credentials }
    RecoverResponse {}
    RefreshEvent { source, error }
    RefreshSummary { failed }
    LastUse { unit }
    Registration { id, description, name, store, workloads, last_use }
    RekeyResponse {}
    RepointResponse {}
    RestorableResponse { secrets }
    RestorableSecret { id, name, description }
    RestoreResponse {}
    SealResponse {}
    StatusResponse {
        version, backend, path, last_refresh, providers, degraded, would_fail, verify, would_fail_now,
        withheld, unknown, unknown_reasons, tasks, degraded_causes, key_bound_to
    }
    TaskStatus { name }
    VerifyResult { detail }
}

impl Printable for DrillEvent {
    fn make_printable(&mut self) {
        match &mut self.event {
            Some(Drilled::Started(started)) => started.make_printable(),
            Some(Drilled::Failure(failure)) => failure.make_printable(),
            Some(Drilled::Outcome(_)) | None => {}
        }
    }
}

impl Printable for PlanEvent {
    fn make_printable(&mut self) {
        match &mut self.event {
            Some(Planned::Workload(workload)) => workload.make_printable(),
            Some(Planned::Source(source)) => source.make_printable(),
            None => {}
        }
    }
}

nothing_to_check!(
    DrillEvent,
    HsmStatusResponse,
    ImportResponse,
    InvalidateResponse,
    MakeRecoveryKeyResponse,
    NoteNamesResponse,
    RecoverResponse,
    RefreshEvent,
    RekeyResponse,
    RepointResponse,
    RestoreResponse,
    StatusResponse,
);

impl Checked for RestorableResponse {
    fn check(&self) -> Result<(), InvalidMessage> {
        self.secrets.iter().try_for_each(|secret| {
            is_id(&secret.id)?;
            is_name_or_none(&secret.name)
        })
    }
}

impl Checked for Registration {
    fn check(&self) -> Result<(), InvalidMessage> {
        is_id(&self.id)?;
        is_name_or_none(&self.name)?;
        // `gc` looks there, as root.
        if !self.store.is_empty() && !Path::new(&self.store).is_absolute() {
            return Err(InvalidMessage("the store of an id is no absolute path".to_owned()));
        }
        Ok(check::without_controls("the store", &self.store)?)
    }
}

/// A shell gets it, in single quotes.
impl Checked for SealResponse {
    fn check(&self) -> Result<(), InvalidMessage> {
        Ok(check::without_controls("the reference", &self.reference)?)
    }
}

/// Root's psictl restarts the units of the workloads that psid names.
impl Checked for ChangedWorkload {
    fn check(&self) -> Result<(), InvalidMessage> {
        check::without_controls("the workload", &self.name)?;
        Ok(check::without_controls("the user", &self.user)?)
    }
}

impl Checked for PlanEvent {
    fn check(&self) -> Result<(), InvalidMessage> {
        match &self.event {
            Some(Planned::Workload(workload)) => is_workload(workload),
            Some(Planned::Source(_)) | None => Ok(()),
        }
    }
}

fn is_name_or_none(name: &str) -> Result<(), InvalidMessage> {
    if name.is_empty() { Ok(()) } else { Ok(check::foreign_secret_name(name)?) }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use psi_proto::Message;
    use psi_proto::health::HealthCheckResponse;
    use psi_proto::v1::{DeleteResponse, ListResponse, LoginResponse, StoreResponse};

    use super::*;

    const ID: &str = "0123456789abcdef012345678";

    #[test]
    fn ids_and_names_of_registrations_are_checked() {
        let registration = |id: &str, name: &str| {
            Registration { id: id.into(), name: name.into(), ..Registration::default() }.check()
        };
        registration(ID, "").unwrap();
        registration(ID, "a name of podman's").unwrap();
        registration("../../etc", "").unwrap_err();
        registration(ID, "\x1b]0;x\x07").unwrap_err();
        let of_store = |store: &str| {
            Registration { id: ID.into(), store: store.into(), ..Registration::default() }.check()
        };
        of_store("/var/lib/containers/storage").unwrap();
        for store in ["../etc", "/a\nb", "etc"] {
            of_store(store).unwrap_err();
        }
        ListResponse { ids: vec![ID.into()] }.check().unwrap();
        ListResponse { ids: vec![ID.into(), "a\nb".into()] }.check().unwrap_err();
        SealResponse { reference: "{}\n".into() }.check().unwrap_err();
    }

    /// A field of protobuf's wire format that holds bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let tag = (u64::from(number) << 3) | 2;
        let mut field = Vec::new();
        for mut value in [tag, bytes.len() as u64] {
            while value > 0x7f {
                field.push(0x80 | (value & 0x7f) as u8);
                value >>= 7;
            }
            field.push(value as u8);
        }
        field.extend_from_slice(bytes);
        field
    }

    /// Whether a message takes a text, which is then printable or ends the call.
    fn arrives<T: Message + Default + Checked + Debug>(input: &[u8]) -> bool {
        // Debug escapes what printable escapes.
        let holds = |message: &T| format!("{message:?}").contains("\\u{1b}\\n");
        // A field that is not known leaves an empty message.
        let message =
            T::decode(input).ok().filter(|message| message.encoded_len() > 0 && holds(message));
        let Some(message) = message else { return false };
        if let Ok(message) = message.checked() {
            assert!(!holds(&message), "{message:?}");
        }
        true
    }

    /// How many fields of a message, at any depth, take the text; in none of them does it arrive.
    fn taken<T: Message + Default + Checked + Debug>(text: &str) -> usize {
        const FIELDS: std::ops::Range<u8> = 1..50;
        let mut inputs = vec![text.as_bytes().to_vec()];
        let mut count = 0;
        // A field of a message in a message in the answer.
        for _ in 0..3 {
            let nested =
                FIELDS.flat_map(|number| inputs.iter().map(move |inner| field(number, inner)));
            let next: Vec<Vec<u8>> = nested.collect();
            count += next.iter().filter(|input| arrives::<T>(input)).count();
            inputs = next;
        }
        count
    }

    #[test]
    fn checked_escapes_each_text_of_every_message() {
        const TEXT: &str = "a\u{1b}\n[Service]";
        let counts = [
            taken::<ListResponse>(TEXT),
            taken::<RestorableResponse>(TEXT),
            taken::<StatusResponse>(TEXT),
            taken::<RefreshEvent>(TEXT),
            taken::<DrillEvent>(TEXT),
            taken::<SealResponse>(TEXT),
            taken::<HsmStatusResponse>(TEXT),
            taken::<PlanEvent>(TEXT),
            taken::<Registration>(TEXT),
            taken::<ImportResponse>(TEXT),
            taken::<LoginResponse>(TEXT),
        ];
        assert!(counts.iter().all(|count| *count > 0) && counts[2] > 12, "{counts:?}");
        for none in [
            taken::<DeleteResponse>(TEXT),
            taken::<HealthCheckResponse>(TEXT),
            taken::<InvalidateResponse>(TEXT),
            taken::<NoteNamesResponse>(TEXT),
            taken::<RecoverResponse>(TEXT),
            taken::<RekeyResponse>(TEXT),
            taken::<RepointResponse>(TEXT),
            taken::<RestoreResponse>(TEXT),
            taken::<StoreResponse>(TEXT),
        ] {
            assert_eq!(none, 0);
        }
    }
}
