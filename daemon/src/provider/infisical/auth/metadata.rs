//! The metadata service of a cloud's virtual machine: it knows who the machine is, and tells who can
//! reach it. It is asked without a proxy, with little patience, and no redirect is followed.

use std::time::Duration;

use psi_common::SecretBytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, StatusCode};

use crate::provider::infisical::response::{ApiError, LONGEST_WAIT, transport};

/// It is on the machine, or one hop away: it connects at once or it is not there.
const CONNECT: Duration = Duration::from_secs(1);
/// For one answer; a token may take it a second or two. Podman waits for 10 s altogether.
const PATIENCE: Duration = Duration::from_secs(3);
/// Far above any token.
const LARGEST_BODY: usize = 64 << 10;

/// What it answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: SecretBytes,
    headers: HeaderMap,
    peer: String,
}

/// A client for it: what it tells is not for a proxy, nor for whoever it redirects to.
pub(in crate::provider::infisical) fn client(builder: ClientBuilder) -> reqwest::Result<Client> {
    let builder = builder.no_proxy().redirect(Policy::none()).http1_only();
    // No connection stays, with what was told in its buffers.
    builder.pool_max_idle_per_host(0).connect_timeout(CONNECT).timeout(PATIENCE).build()
}

/// Its answer, unless it is not there or asks to wait.
pub(super) async fn ask(request: RequestBuilder) -> Result<Answer, ApiError> {
    let broke = |error: reqwest::Error| {
        ApiError::no_credential(format!("the metadata service: {}", transport(&error)))
    };
    let mut response = request.send().await.map_err(broke)?;
    let url = response.url();
    let mut answer = Answer {
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
    let mut body = Vec::with_capacity(LARGEST_BODY);
    while let Some(chunk) = response.chunk().await.map_err(broke)? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Err(answer.refusal("it says far too much"));
        }
        body.extend_from_slice(&chunk);
    }
    answer.body = SecretBytes::new(body);
    Ok(answer)
}

impl Answer {
    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, whatever it is.
    pub(super) fn body(&self) -> &[u8] {
        self.body.expose_secret()
    }

    /// The body of a success; `why` says what another status means.
    pub(super) fn given(
        &self,
        why: impl Fn(StatusCode) -> &'static str,
    ) -> Result<&[u8], ApiError> {
        match self.status {
            StatusCode::OK => Ok(self.body()),
            other => Err(self.refusal(why(other))),
        }
    }

    /// Where it comes from, in words.
    pub(super) fn origin(&self) -> String {
        format!("the answer of the metadata service at {}", self.peer)
    }

    /// Nothing of use is in it, for this reason. Its body is not quoted: it may be anything.
    pub(super) fn refusal(&self, why: &str) -> ApiError {
        let Self { peer, status, .. } = self;
        let code = status.as_u16();
        ApiError::no_credential(format!("the metadata service at {peer} answers {code}: {why}"))
    }

    fn busy(&self) -> ApiError {
        let wait = self.header(RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        match self.refusal("it cannot answer now") {
            ApiError::NoCredential { why, .. } => ApiError::NoCredential { why, wait },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::provider::infisical::client::Api;

    /// What comes of an answer with these bytes.
    async fn asked(answer: String) -> Result<Answer, ApiError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            // The client may have had enough before the end.
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let api = Api::new("http://127.0.0.1:9", None, PATIENCE).unwrap();
        let answer = ask(api.metadata().get(url)).await;
        server.await.unwrap();
        answer
    }

    fn with_body(length: usize) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length))
    }

    #[tokio::test]
    async fn an_answer_is_as_long_as_a_token_may_be() {
        assert_eq!(asked(with_body(LARGEST_BODY)).await.unwrap().body().len(), LARGEST_BODY);
        let error = asked(with_body(LARGEST_BODY + 1)).await.err().unwrap().to_string();
        assert!(error.ends_with("answers 200: it says far too much"), "{error}");
    }

    #[tokio::test]
    async fn what_it_asks_to_wait_is_obeyed_and_bounded() {
        for (header, wait) in [
            ("retry-after: 7", Some(Duration::from_secs(7))),
            ("retry-after: 99999999", Some(LONGEST_WAIT)),
            ("retry-after: soon", None),
            ("x: y", None),
        ] {
            let answer = format!("HTTP/1.1 429 No\r\n{header}\r\ncontent-length: 0\r\n\r\n");
            match asked(answer).await.err().unwrap() {
                ApiError::NoCredential { wait: told, .. } => assert_eq!(told, wait, "{header}"),
                other => panic!("{header}: {other}"),
            }
        }
    }
}
