//! `psi.v1.HsmAdmin`

use std::sync::Arc;

use psi_common::SecretBytes;
use psi_proto::v1::hsm_admin_server::HsmAdmin;
use psi_proto::v1::{
    HsmKey, HsmStatusRequest, HsmStatusResponse, HsmToken, SealRequest, SealResponse,
};
use tonic::{Request, Response, Status, async_trait};

use super::control::{Control, TokenReport};
use super::{check_size, status};
use crate::keys::pkcs11::{
    KeyDescription, PinStatus, TokenDescription, TokenError, TokenErrorKind, TokenState,
};
use crate::model::clock::{self, Timestamp};

pub(super) struct Hsm(pub(super) Arc<dyn Control>);

#[async_trait]
impl HsmAdmin for Hsm {
    async fn seal(&self, request: Request<SealRequest>) -> Result<Response<SealResponse>, Status> {
        let data = SecretBytes::new(request.into_inner().data);
        check_size(&data)?;
        let reference = self.0.seal(&data).await.map_err(status)?;
        Ok(Response::new(SealResponse { reference }))
    }

    async fn hsm_status(
        &self,
        _: Request<HsmStatusRequest>,
    ) -> Result<Response<HsmStatusResponse>, Status> {
        let report = self.0.token().await.map_err(status)?;
        Ok(Response::new(to_proto(report, clock::now().wall)))
    }
}

fn to_proto(TokenReport { state, described }: TokenReport, now: Timestamp) -> HsmStatusResponse {
    let since = match &state {
        TokenState::Away { since, .. } => Some(now.before(since.elapsed())),
        _ => None,
    };
    let mut response = HsmStatusResponse {
        state: state_name(&state).into(),
        away_since_ms: since.map(Timestamp::as_millis),
        pin: "untried".into(),
        ..HsmStatusResponse::default()
    };
    let described = match described {
        Ok(described) => described,
        Err(error) => return HsmStatusResponse { last_error: error.to_string(), ..response },
    };
    response.pin = pin_state(&described.key).into();
    match &described.key {
        Ok(key) => response.key = Some(key_to_proto(key)),
        Err(error) => response.last_error = error.to_string(),
    }
    response.token = Some(token_to_proto(described));
    response
}

fn state_name(state: &TokenState) -> &'static str {
    match state {
        TokenState::Unused => "unused",
        TokenState::Ready => "ready",
        TokenState::Busy { .. } => "busy",
        TokenState::Away { .. } => "away",
        TokenState::PinRefused { .. } => "pin-refused",
    }
}

/// The state of the PIN. An error about the key implies an accepted PIN: the token looks for the key after the login.
fn pin_state(key: &Result<KeyDescription, TokenError>) -> &'static str {
    match key.as_ref().map_err(|error| error.kind) {
        Ok(_) | Err(TokenErrorKind::Refused | TokenErrorKind::NoKey) => "accepted",
        Err(TokenErrorKind::Pin) => "not-accepted",
        Err(TokenErrorKind::Absent | TokenErrorKind::Busy | TokenErrorKind::Broken) => "untried",
    }
}

fn token_to_proto(token: TokenDescription) -> HsmToken {
    let pin_status = match token.pin {
        PinStatus::Good => "good",
        PinStatus::CountLow => "count-low",
        PinStatus::FinalTry => "final-try",
        PinStatus::Locked => "locked",
        PinStatus::NotSet => "not-set",
    };
    HsmToken {
        label: token.label,
        manufacturer: token.manufacturer,
        model: token.model,
        serial: token.serial,
        firmware: token.firmware,
        slot: token.slot,
        pin_status: pin_status.into(),
    }
}

fn key_to_proto(key: &KeyDescription) -> HsmKey {
    HsmKey {
        label: key.label.clone(),
        id: key.id.clone(),
        bits: u32::try_from(key.bits).unwrap_or(u32::MAX),
        may_decrypt: key.may_decrypt,
        may_sign: key.may_sign,
    }
}
