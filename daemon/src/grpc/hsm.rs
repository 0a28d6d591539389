//! `psi.v1.HsmAdmin`

use std::sync::Arc;

use psi_common::SecretBytes;
use psi_proto::v1::hsm_admin_server::HsmAdmin;
use psi_proto::v1::{
    HsmKey, HsmStatusRequest, HsmStatusResponse, HsmToken, SealRequest, SealResponse,
};
use tonic::{Request, Response, Status, async_trait};

use super::{status, whole};
use crate::keys::pkcs11::{
    KeyDescription, PinStatus, Token, TokenDescription, TokenError, TokenErrorKind, TokenState,
};
use crate::lookup::ServiceError;
use crate::model::clock::{self, Timestamp};
use crate::provider::pkcs11_sealed::{NAME, Pkcs11Sealed, SealError};
use crate::runtime::Runtime;

pub(super) struct Hsm(pub(super) Arc<Runtime>);

#[async_trait]
impl HsmAdmin for Hsm {
    async fn seal(&self, request: Request<SealRequest>) -> Result<Response<SealResponse>, Status> {
        let data = SecretBytes::new(request.into_inner().data);
        whole(&data)?;
        let provider = Pkcs11Sealed::new(self.token()?);
        let reference = provider.seal(&data).await.map_err(|error| status(error.into()))?;
        Ok(Response::new(SealResponse { reference }))
    }

    async fn hsm_status(
        &self,
        _: Request<HsmStatusRequest>,
    ) -> Result<Response<HsmStatusResponse>, Status> {
        let token = self.token()?;
        let described = token.describe().await;
        Ok(Response::new(told(described, &token.state(), clock::now().wall)))
    }
}

impl Hsm {
    fn token(&self) -> Result<Token, Status> {
        let configured = self.0.service.upstreams().providers.contains_key(NAME);
        self.0.token().filter(|_| configured).ok_or_else(|| {
            status(ServiceError::NoKey(
                "the config has no [providers.pkcs11]; add it, see psi.toml, and `systemctl reload psid`".into(),
            ))
        })
    }
}

fn told(
    described: Result<TokenDescription, TokenError>,
    state: &TokenState,
    now: Timestamp,
) -> HsmStatusResponse {
    let since = match state {
        TokenState::Away { since, .. } => Some(now.before(since.elapsed())),
        _ => None,
    };
    let mut told = HsmStatusResponse {
        state: named(state).into(),
        away_since_ms: since.map(Timestamp::as_millis),
        pin: "untried".into(),
        ..HsmStatusResponse::default()
    };
    let described = match described {
        Ok(described) => described,
        Err(error) => return HsmStatusResponse { last_error: error.to_string(), ..told },
    };
    told.pin = pin(&described.key).into();
    match &described.key {
        Ok(key) => told.key = Some(told_key(key)),
        Err(error) => told.last_error = error.to_string(),
    }
    told.token = Some(told_token(described));
    told
}

fn named(state: &TokenState) -> &'static str {
    match state {
        TokenState::Unused => "unused",
        TokenState::Ready => "ready",
        TokenState::Busy { .. } => "busy",
        TokenState::Away { .. } => "away",
        TokenState::PinRefused { .. } => "pin-refused",
    }
}

/// The key is looked for once the PIN was accepted.
fn pin(key: &Result<KeyDescription, TokenError>) -> &'static str {
    match key.as_ref().map_err(|error| error.kind) {
        Ok(_) | Err(TokenErrorKind::Refused | TokenErrorKind::NoKey) => "accepted",
        Err(TokenErrorKind::Pin) => "not-accepted",
        Err(TokenErrorKind::Absent | TokenErrorKind::Busy | TokenErrorKind::Broken) => "untried",
    }
}

fn told_token(token: TokenDescription) -> HsmToken {
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

fn told_key(key: &KeyDescription) -> HsmKey {
    HsmKey {
        label: key.label.clone(),
        id: key.id.clone(),
        bits: u32::try_from(key.bits).unwrap_or(u32::MAX),
        may_decrypt: key.may_decrypt,
        may_sign: key.may_sign,
    }
}

impl From<SealError> for ServiceError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::TooLarge { secret, room } => Self::Malformed(format!(
                "a secret of {secret} bytes makes a reference that is longer than podman takes; seal at most \
                 {room} bytes, or mount a file instead"
            )),
            SealError::Token(error) => match error.kind {
                TokenErrorKind::Absent | TokenErrorKind::Busy | TokenErrorKind::Broken => {
                    Self::Unavailable(error.to_string())
                }
                TokenErrorKind::Pin | TokenErrorKind::Refused | TokenErrorKind::NoKey => {
                    Self::NoKey(error.to_string())
                }
            },
            SealError::Unproven(why) => Self::NoKey(format!(
                "what was sealed does not open again: {why}; nothing was stored, see `psictl hsm preflight`"
            )),
        }
    }
}
