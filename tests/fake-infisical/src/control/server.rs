//! The server as a whole: dialect, settings, clock and tokens.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Control, ControlError, done, shown};
use crate::auth::jwt;
use crate::dialect::Dialect;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDialect {
    dialect: Dialect,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Advance {
    advance_seconds: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Revocation {
    Token(String),
    ClientSecretId(String),
    IdentityId(String),
}

impl Control {
    pub(super) fn dialect(&self) -> Answer {
        Ok(json!({"dialect": self.shared.lock().dialect}))
    }

    pub(super) fn change_dialect(&self, new: NewDialect) -> Answer {
        self.shared.lock().dialect = new.dialect;
        done()
    }

    pub(super) fn settings(&self) -> Answer {
        shown(&self.shared.lock().settings)
    }

    /// Keys that are not named keep their values.
    pub(super) fn change_settings(&self, changes: Map<String, Value>) -> Answer {
        let mut fake = self.shared.lock();
        let mut merged = shown(&fake.settings)?;
        if let Value::Object(settings) = &mut merged {
            settings.extend(changes);
        }
        fake.settings =
            serde_json::from_value(merged).map_err(|error| ControlError::bad(error.to_string()))?;
        shown(&fake.settings)
    }

    pub(super) fn advance(&self, advance: Advance) -> Answer {
        let mut fake = self.shared.lock();
        fake.clock.advance_seconds(advance.advance_seconds);
        Ok(json!({"nowMs": fake.clock.now()}))
    }

    /// A revoked client secret also fails at logins; a revoked identity may log in again.
    pub(super) fn revoke(&self, revocation: Revocation) -> Answer {
        let mut fake = self.shared.lock();
        match revocation {
            Revocation::Token(token) => {
                let claims = jwt::verify(&token, &fake.settings.auth_secret, 0)
                    .map_err(|flaw| ControlError::bad(format!("no token of ours: {flaw:?}")))?;
                fake.tokens.revoke_token(&claims.jti);
            }
            Revocation::IdentityId(id) => {
                if fake.state.identity(&id).is_none() {
                    return Err(ControlError::not_found("no such identity"));
                }
                fake.tokens.revoke_identity(&id);
            }
            Revocation::ClientSecretId(id) => {
                let identities = fake.state.identities.iter_mut();
                let mut secrets = identities.flat_map(|identity| &mut identity.client_secrets);
                let Some(secret) = secrets.find(|secret| secret.id == id) else {
                    return Err(ControlError::not_found("no such client secret"));
                };
                secret.revoked = true;
                fake.tokens.revoke_client_secret(&id);
            }
        }
        done()
    }
}
