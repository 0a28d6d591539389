//! The log of requests, and their counts.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::{Answer, Control, ControlError, done, shown};
use crate::http::request::Request;

impl Control {
    pub(super) fn log(&self) -> Answer {
        shown(&self.shared.lock().journal.entries)
    }

    pub(super) fn clear_log(&self) -> Answer {
        self.shared.lock().journal.entries.clear();
        done()
    }

    pub(super) fn stats(&self) -> Answer {
        shown(&self.shared.lock().journal.stats)
    }

    /// With `atLeast` it waits until that many requests have arrived; after `timeoutMs` it answers
    /// with the present count.
    pub(super) async fn count(&self, request: &Request) -> Answer {
        let query = request.query_map();
        let text = |key: &str| query.get(key).and_then(|value| value.as_str());
        let number = |key: &str, default: u64| match text(key) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| ControlError::bad(format!("{key} is not a number")))
            }
        };
        let at_least = number("atLeast", 0)?;
        let patience = Duration::from_millis(number("timeoutMs", 10_000)?);
        let count = || {
            let fake = self.shared.lock();
            let count = fake.journal.count(text("method"), text("path").unwrap_or_default());
            count as u64
        };
        let enough = async {
            loop {
                let arrival = self.shared.arrivals.notified();
                if count() >= at_least {
                    return;
                }
                arrival.await;
            }
        };
        // A timeout is an answer too: the count shows it
        let _ = timeout(patience, enough).await;
        Ok(json!({"count": count()}))
    }
}
