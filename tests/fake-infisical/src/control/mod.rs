//! The control port: plain HTTP and JSON, for tests only, without faults.

mod cloud;
mod faults;
mod log;
mod server;
mod state;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::fake::Shared;
use crate::http::read::Reader;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::net::gate::Gate;

#[derive(Clone)]
pub struct Control {
    shared: Shared,
    gate: Gate,
    metadata: Gate,
}

/// An error in a test's request.
struct ControlError {
    status: u16,
    message: String,
}

type Answer = Result<Value, ControlError>;

impl Control {
    pub fn new(shared: Shared, gate: Gate, metadata: Gate) -> Self {
        Self { shared, gate, metadata }
    }

    pub async fn serve(self, listener: TcpListener) {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().converse(stream));
            }
        }
    }

    async fn converse(self, mut stream: TcpStream) {
        let mut reader = Reader::default();
        while let Ok(Some(request)) = reader.next(&mut stream).await {
            let response = match self.answer(&request).await {
                Ok(body) => Response::json(200, &body),
                Err(mistake) => {
                    Response::json(mistake.status, &json!({ "error": mistake.message }))
                }
            };
            let now = self.shared.lock().clock.now();
            let head = response.head(now, request.wants_close);
            let sent = stream.write_all(&[head, response.body].concat()).await;
            if sent.is_err() || request.wants_close {
                return;
            }
        }
    }

    async fn answer(&self, request: &Request) -> Answer {
        let segments = request.segments();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("GET", ["log"]) => self.log(),
            ("DELETE", ["log"]) => self.clear_log(),
            ("GET", ["log", "count"]) => self.count(request).await,
            ("GET", ["stats"]) => self.stats(),
            ("GET", ["faults"]) => self.faults(),
            ("PUT", ["faults"]) => self.replace_faults(body(request)?).await,
            ("DELETE", ["faults"]) => self.replace_faults(Vec::new()).await,
            ("GET", ["settings"]) => self.settings(),
            ("PATCH", ["settings"]) => self.change_settings(body(request)?),
            ("GET", ["dialect"]) => self.dialect(),
            ("PUT", ["dialect"]) => self.change_dialect(body(request)?),
            ("POST", ["clock"]) => self.advance(body(request)?),
            ("POST", ["revoke"]) => self.revoke(body(request)?),
            ("GET", ["cloud"]) => self.cloud(),
            ("PATCH", ["cloud"]) => self.change_cloud(body(request)?),
            ("POST", ["kubernetes", "token"]) => self.kubernetes_token(body(request)?),
            ("POST", ["issuer", "token"]) => self.issuer_token(body(request)?),
            ("POST", ["access-token"]) => self.access_token(body(request)?),
            ("GET", ["state"]) => self.state(),
            ("PUT", ["state"]) => self.replace_state(body(request)?),
            ("PUT", ["secret"]) => self.put_secret(body(request)?),
            ("DELETE", ["secret"]) => self.delete_secret(body(request)?),
            ("PUT", ["import"]) => self.put_import(body(request)?),
            ("DELETE", ["import"]) => self.delete_import(body(request)?),
            ("PUT", ["identity"]) => self.put_identity(body(request)?),
            ("DELETE", ["identity"]) => self.delete_identity(body(request)?),
            ("PUT", ["permission"]) => self.put_permission(body(request)?),
            _ => Err(ControlError::not_found(format!(
                "no such control: {} {}",
                request.method, request.path
            ))),
        }
    }
}

impl ControlError {
    fn bad(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into() }
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self { status: 404, message: message.into() }
    }
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, ControlError> {
    serde_json::from_slice(&request.body).map_err(|error| ControlError::bad(error.to_string()))
}

fn shown(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| ControlError::bad(error.to_string()))
}

fn done() -> Answer {
    Ok(json!({"ok": true}))
}
