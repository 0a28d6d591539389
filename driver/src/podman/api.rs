//! Over podman's API socket: libpod's part of the API, in JSON. A connection a call, which on a unix socket
//! costs nothing, and none can be stale.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use psi_common::Exit;
use serde_json::Value;

use super::http::{self, Answer};
use super::{Commands, strange};
use crate::client::wait;
use crate::failure::Failure;

/// The oldest API that every podman from 4.0 on serves.
const BASE: &str = "/v4.0.0/libpod";
/// Whoever does not answer a ping is not there.
const PING: Duration = Duration::from_secs(3);
/// Podman makes its callers queue for its lock, and a store waits for psid.
const CALL: Duration = Duration::from_secs(120);

/// How often a socket that nothing announces is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// A podman that answers.
pub(super) struct Api {
    socket: PathBuf,
}

impl Api {
    /// The API behind a socket, if it answers.
    pub(super) fn connect(socket: &Path) -> Option<Self> {
        let api = Self { socket: socket.to_owned() };
        api.call("GET", "/_ping", "", PING).is_ok().then_some(api)
    }

    /// The API behind a socket that will be there, if it is there by `limit`.
    pub(super) fn await_at(socket: &Path, limit: Duration) -> Option<Self> {
        let deadline = Instant::now() + limit;
        while UnixStream::connect(socket).is_err() {
            if Instant::now() >= deadline {
                return None;
            }
            wait(LOOK);
        }
        Some(Self { socket: socket.to_owned() })
    }

    pub(super) fn secrets(&self) -> Result<Vec<Value>, Failure> {
        self.list("/secrets/json")
    }

    pub(super) fn containers(&self) -> Result<Vec<Value>, Failure> {
        let listed = self.list("/containers/json?all=true")?;
        let ids = listed.iter().filter_map(|container| container["Id"].as_str());
        ids.map(|id| self.json(&format!("/containers/{}/json", escaped(id)))).collect()
    }

    pub(super) fn info(&self) -> Result<Value, Failure> {
        self.json("/info")
    }

    pub(super) fn create(
        &self,
        name: &str,
        data: &str,
        commands: &Commands,
    ) -> Result<(), Failure> {
        let options = serde_json::to_string(&commands.options()).unwrap_or_default();
        let target = format!(
            "/secrets/create?name={}&driver=shell&driveropts={}",
            escaped(name),
            escaped(&options)
        );
        self.call("POST", &target, data, CALL).map(|_| ())
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), Failure> {
        let target = format!("/secrets/{}", escaped(name));
        self.call("DELETE", &target, "", CALL).map(|_| ())
    }

    fn list(&self, target: &str) -> Result<Vec<Value>, Failure> {
        match self.json(target)? {
            Value::Array(listed) => Ok(listed),
            // What Go makes of nothing.
            Value::Null => Ok(Vec::new()),
            other => Err(strange(&other)),
        }
    }

    fn json(&self, target: &str) -> Result<Value, Failure> {
        let body = self.call("GET", target, "", CALL)?;
        serde_json::from_slice(&body)
            .map_err(|_| strange(&Value::from(String::from_utf8_lossy(&body))))
    }

    fn call(
        &self,
        method: &str,
        target: &str,
        body: &str,
        limit: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let socket = self.socket.display();
        let answer = http::call(&self.socket, method, &format!("{BASE}{target}"), body, limit);
        let Answer { status, body } = answer.map_err(|cause| {
            Failure::io(&format!("podman's API at {socket}"), &cause, "see `journalctl -u podman`")
        })?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        let why = told["message"].as_str().or_else(|| told["cause"].as_str());
        let why = why.map_or_else(|| format!("status {status}"), str::to_owned);
        Err(Failure::new(
            Exit::Io,
            format!("podman's API at {socket}: {why}"),
            "what psi-driver said to podman is in `journalctl -u podman`",
        ))
    }
}

/// Percent-encoded, but for what RFC 3986 calls unreserved.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_any_text() {
        assert_eq!(escaped("app--A_b.1~"), "app--A_b.1~");
        assert_eq!(escaped("{\"a b\":\"/ä&=\"}"), "%7B%22a%20b%22%3A%22%2F%C3%A4%26%3D%22%7D");
    }
}
