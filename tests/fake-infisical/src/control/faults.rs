//! Sets and removes faults.

use super::{Answer, Control, ControlError, done, shown};
use crate::fault::rules::Rule;
use crate::net::PublicPort;

impl Control {
    pub(super) fn faults(&self) -> Answer {
        shown(&self.shared.lock().faults.rules)
    }

    /// In effect when this answers: a refused port is closed, or open again.
    pub(super) async fn replace_faults(&self, rules: Vec<Rule>) -> Answer {
        let refuses = {
            let mut fake = self.shared.lock();
            fake.faults.replace(rules).map_err(ControlError::bad)?;
            [PublicPort::Api, PublicPort::Metadata].map(|face| fake.faults.refuses(face))
        };
        for (gate, refuses) in [&self.gate, &self.metadata].into_iter().zip(refuses) {
            gate.set_open(!refuses).await.map_err(|error| ControlError {
                status: 500,
                message: format!("a public port: {error}"),
            })?;
        }
        done()
    }
}
