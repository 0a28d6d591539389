//! Changes of the clouds around the machine.

use serde_json::{Map, Value, json};

use super::state::IdentityId;
use super::{Answer, Control, ControlError, shown};
use crate::auth::kubernetes::{self, Order};
use crate::auth::login;
use crate::auth::token_login::{self, TokenOrder};

impl Control {
    pub(super) fn cloud(&self) -> Answer {
        shown(&self.shared.lock().state.cloud)
    }

    /// Keys that are not named keep their values, in each cloud.
    pub(super) fn change_cloud(&self, changes: Map<String, Value>) -> Answer {
        let mut fake = self.shared.lock();
        let mut merged = shown(&fake.state.cloud)?;
        for (name, changes) in changes {
            match (merged.get_mut(&name), changes) {
                (Some(Value::Object(cloud)), Value::Object(changes)) => cloud.extend(changes),
                _ => return Err(ControlError::bad(format!("no such cloud, or no object: {name}"))),
            }
        }
        fake.state.cloud =
            serde_json::from_value(merged).map_err(|error| ControlError::bad(error.to_string()))?;
        shown(&fake.state.cloud)
    }

    /// A token as an issuer of one's own makes it.
    pub(super) fn issuer_token(&self, order: TokenOrder) -> Answer {
        Ok(json!({"token": token_login::mint(&self.shared.lock(), &order)}))
    }

    /// An access token that needs no login, as an admin makes it by Token Auth.
    pub(super) fn access_token(&self, order: IdentityId) -> Answer {
        let mut fake = self.shared.lock();
        let granted = login::admit(&mut fake, &order.identity, "token-auth");
        granted
            .map(|grant| json!({"token": grant.access_token}))
            .map_err(|_| ControlError::not_found("no such identity"))
    }

    /// A service account's token, as kubelet writes it to a file.
    pub(super) fn kubernetes_token(&self, order: Order) -> Answer {
        Ok(json!({"token": kubernetes::mint(&self.shared.lock(), &order)}))
    }
}
