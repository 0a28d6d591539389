//! The request log and the counters.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::api::route::Endpoint;
use crate::clock::Millis;
use crate::http::request::Request;

/// A public request, as `GET /log` shows it. Nothing is masked: a test may check that the right
/// token was sent, or that a secret never was.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    n: usize,
    at_ms: Millis,
    pub method: String,
    pub path: String,
    query: BTreeMap<String, Value>,
    headers: BTreeMap<String, String>,
    body_bytes: usize,
    body: String,
    /// Null until answered; a hung request stays so
    status: Option<u16>,
    /// The kind of the applied fault
    fault: Option<&'static str>,
}

/// Counted at arrival, whatever fault follows; never reset.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub requests: u64,
    pub logins: u64,
    pub gets: u64,
    pub lists: u64,
    pub not_modified: u64,
    pub connections: u64,
}

#[derive(Default)]
pub struct Journal {
    pub entries: Vec<Entry>,
    pub stats: Stats,
    arrived: usize,
}

/// Identifies a request in the log until it is answered. A cleared log drops it.
#[derive(Clone, Copy)]
pub struct EntryId(usize);

impl Journal {
    pub fn arrive(
        &mut self,
        request: &Request,
        endpoint: Option<&Endpoint>,
        fault: Option<&'static str>,
        at_ms: Millis,
    ) -> EntryId {
        self.stats.requests += 1;
        match endpoint {
            Some(Endpoint::Login(_)) => self.stats.logins += 1,
            Some(Endpoint::GetSecret(..)) => self.stats.gets += 1,
            Some(Endpoint::ListSecrets(_)) => self.stats.lists += 1,
            _ => {}
        }
        self.arrived += 1;
        self.entries.push(Entry {
            n: self.arrived,
            at_ms,
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query_map().into_iter().collect(),
            headers: request.headers.clone(),
            body_bytes: request.body_bytes,
            body: String::from_utf8_lossy(&request.body).into_owned(),
            status: None,
            fault,
        });
        EntryId(self.arrived)
    }

    pub fn answered(&mut self, entry: EntryId, status: u16) {
        if status == 304 {
            self.stats.not_modified += 1;
        }
        if let Some(entry) = self.entries.iter_mut().rfind(|e| e.n == entry.0) {
            entry.status = Some(status);
        }
    }

    pub fn count(&self, method: Option<&str>, path_prefix: &str) -> usize {
        self.entries
            .iter()
            .filter(|e| method.is_none_or(|m| m.eq_ignore_ascii_case(&e.method)))
            .filter(|e| e.path.starts_with(path_prefix))
            .count()
    }
}
