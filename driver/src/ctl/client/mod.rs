//! The calls that only psictl makes.

mod checked;
mod checked_plan;
mod import;
mod login;
mod workloads;

use std::time::Duration;

use psi_common::{SecretBytes, SecretId};
use psi_proto::v1::{
    DrillEvent, DrillRequest, HsmStatusRequest, HsmStatusResponse, InvalidateRequest,
    InvalidateResponse, MakeRecoveryKeyRequest, MakeRecoveryKeyResponse, RecoverRequest,
    RecoverResponse, RefreshEvent, RefreshRequest, RekeyRequest, RekeyResponse, RestorableRequest,
    RestorableResponse, RestorableSecret, RestoreRequest, RestoreResponse, Seal, SealRequest,
    SealResponse, StatusRequest, StatusResponse, invalidate_request,
};

use crate::client::{Client, DRIVER, Key};
use crate::error::CliError;

const ADMIN: &str = "/psi.v1.CacheAdmin";
const HSM: &str = "/psi.v1.HsmAdmin";

impl Client {
    pub(crate) fn restore(&self, id: SecretId) -> Result<(), CliError> {
        let request = RestoreRequest { id: id.to_string() };
        self.call::<RestoreResponse>(DRIVER, "Restore", &request).map(|_| ())
    }

    pub(crate) fn restorable(&self) -> Result<Vec<RestorableSecret>, CliError> {
        self.call::<RestorableResponse>(DRIVER, "Restorable", &RestorableRequest {})
            .map(|answer| answer.secrets)
    }

    pub(crate) fn status(&self, verify: bool) -> Result<StatusResponse, CliError> {
        self.call(ADMIN, "Status", &StatusRequest { verify })
    }

    /// Calls `on_event` for each event as it arrives.
    pub(crate) fn refresh(
        &self,
        request: &RefreshRequest,
        on_event: &mut dyn FnMut(RefreshEvent),
    ) -> Result<(), CliError> {
        self.stream(ADMIN, "Refresh", request, on_event)
    }

    /// Calls `on_event` for each event as it arrives. The drill ends with the connection.
    pub(crate) fn drill(
        &self,
        span: Duration,
        on_event: &mut dyn FnMut(DrillEvent),
    ) -> Result<(), CliError> {
        let duration_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.stream(ADMIN, "Drill", &DrillRequest { duration_ms }, on_event)
    }

    /// Whether the cache had the entry.
    pub(crate) fn invalidate(&self, key: &Key) -> Result<bool, CliError> {
        let key = Some(match key {
            Key::Id(id) => invalidate_request::Key::Id(id.to_string()),
            Key::Name(name) => invalidate_request::Key::Name(name.clone()),
        });
        self.call::<InvalidateResponse>(ADMIN, "Invalidate", &InvalidateRequest { key })
            .map(|answer| answer.existed)
    }

    pub(crate) fn rekey(&self, seal: Option<&Seal>) -> Result<(), CliError> {
        let request = RekeyRequest { seal: seal.cloned() };
        self.call::<RekeyResponse>(ADMIN, "Rekey", &request).map(|_| ())
    }

    pub(crate) fn recover(
        &self,
        recovery_key: &SecretBytes,
        seal: Option<&Seal>,
    ) -> Result<RecoverResponse, CliError> {
        let recovery_key = recovery_key.expose_secret().to_vec();
        self.call(ADMIN, "Recover", &RecoverRequest { recovery_key, seal: seal.cloned() })
    }

    pub(crate) fn make_recovery_key(&self) -> Result<SecretBytes, CliError> {
        self.call::<MakeRecoveryKeyResponse>(ADMIN, "MakeRecoveryKey", &MakeRecoveryKeyRequest {})
            .map(|answer| SecretBytes::new(answer.recovery_key))
    }

    /// Seals a secret to the token's key and returns its reference.
    pub(crate) fn seal(&self, data: &SecretBytes) -> Result<String, CliError> {
        let request = SealRequest { data: data.expose_secret().to_vec() };
        self.call::<SealResponse>(HSM, "Seal", &request).map(|answer| answer.reference)
    }

    pub(crate) fn hsm_status(&self) -> Result<HsmStatusResponse, CliError> {
        self.call(HSM, "HsmStatus", &HsmStatusRequest {})
    }
}
