//! Changes of the clouds around the machine.

use serde_json::{Map, Value, json};

use super::{Answer, Control, ControlError, shown};
use crate::auth::kubernetes::{self, Order};

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

    /// A service account's token, as kubelet writes it to a file.
    pub(super) fn kubernetes_token(&self, order: Order) -> Answer {
        Ok(json!({"token": kubernetes::mint(&self.shared.lock(), &order)}))
    }
}
