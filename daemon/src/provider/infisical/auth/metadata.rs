//! Requests to the metadata service of a cloud's virtual machine, which gives out the machine's credentials.
//! They use no proxy, follow no redirect and have short timeouts.

use std::sync::OnceLock;
use std::time::Duration;

use psi_common::SecretBytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, StatusCode};

use super::NoCredential;
use crate::provider::infisical::client::client_builder;
use crate::provider::infisical::response::{MAX_WAIT, transport};

/// The service is on the machine or one hop away: it connects at once or does not exist.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The timeout of one response; a token may take a second or two. Podman waits at most 10 s in all.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The longest body, far longer than any token.
const MAX_BODY: usize = 64 << 10;

/// A response of the service.
#[derive(Debug)]
pub(super) struct MetadataResponse {
    pub(super) status: StatusCode,
    body: SecretBytes,
    headers: HeaderMap,
    peer: String,
}

/// The client for the service, one for all identities. It keeps no connection, whose buffers would hold
/// credentials.
pub(super) fn client() -> Result<&'static Client, NoCredential> {
    static CLIENT: OnceLock<Result<Client, NoCredential>> = OnceLock::new();
    let build = || {
        let builder = client_builder().no_proxy().redirect(Policy::none()).http1_only();
        let builder =
            builder.pool_max_idle_per_host(0).connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
        builder.build().map_err(|error| NoCredential::new(format!("the TLS client: {error}")))
    };
    CLIENT.get_or_init(build).as_ref().map_err(Clone::clone)
}

/// The service's response, unless the service is unreachable or asks to wait.
pub(super) async fn send(request: RequestBuilder) -> Result<MetadataResponse, NoCredential> {
    let broke = |error: reqwest::Error| {
        NoCredential::new(format!("the metadata service: {}", transport(&error)))
    };
    let mut response = request.send().await.map_err(broke)?;
    let url = response.url();
    let mut answer = MetadataResponse {
        status: response.status(),
        body: SecretBytes::new(Vec::new()),
        headers: response.headers().clone(),
        peer: format!(
            "{}:{}",
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or_default()
        ),
    };
    if let 408 | 410 | 429 | 500.. = answer.status.as_u16() {
        return Err(answer.busy());
    }
    let mut body = Vec::with_capacity(MAX_BODY);
    while let Some(chunk) = response.chunk().await.map_err(broke)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(answer.refusal("too long a body"));
        }
        body.extend_from_slice(&chunk);
    }
    answer.body = SecretBytes::new(body);
    Ok(answer)
}

impl MetadataResponse {
    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, whatever it is.
    pub(super) fn body(&self) -> &[u8] {
        self.body.expose_secret()
    }

    /// The body of a success; `why` is the meaning of another status.
    pub(super) fn success(
        &self,
        why: impl Fn(StatusCode) -> &'static str,
    ) -> Result<&[u8], NoCredential> {
        match self.status {
            StatusCode::OK => Ok(self.body()),
            other => Err(self.refusal(why(other))),
        }
    }

    /// Its origin, for messages.
    pub(super) fn origin(&self) -> String {
        format!("the answer of the metadata service at {}", self.peer)
    }

    /// The error of an unexpected response. Its body is not quoted, because it may be a secret.
    pub(super) fn refusal(&self, why: &str) -> NoCredential {
        let Self { peer, status, .. } = self;
        let code = status.as_u16();
        NoCredential::new(format!("the metadata service at {peer} answers {code}: {why}"))
    }

    fn busy(&self) -> NoCredential {
        let wait = self.header(RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT));
        NoCredential { wait, ..self.refusal("it is busy") }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// The result of a response with these bytes.
    async fn response_to(answer: String) -> Result<MetadataResponse, NoCredential> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            // The client may close the connection before the end.
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let answer = send(client().unwrap().get(url)).await;
        server.await.unwrap();
        answer
    }

    fn with_body(length: usize) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length))
    }

    #[tokio::test]
    async fn body_is_bounded() {
        assert_eq!(response_to(with_body(MAX_BODY)).await.unwrap().body().len(), MAX_BODY);
        let error = response_to(with_body(MAX_BODY + 1)).await.err().unwrap().to_string();
        assert!(error.ends_with("answers 200: too long a body"), "{error}");
    }

    #[tokio::test]
    async fn retry_after_is_bounded() {
        for (header, wait) in [
            ("retry-after: 7", Some(Duration::from_secs(7))),
            ("retry-after: 99999999", Some(MAX_WAIT)),
            ("retry-after: soon", None),
            ("x: y", None),
        ] {
            let answer = format!("HTTP/1.1 429 No\r\n{header}\r\ncontent-length: 0\r\n\r\n");
            let error = response_to(answer).await.unwrap_err();
            assert_eq!(error.wait, wait, "{header}");
        }
    }
}
