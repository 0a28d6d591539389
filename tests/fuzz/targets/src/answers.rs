//! What Infisical, or something in its place, answers over HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretBytes;
use psi_daemon::cache::{Cache, Policy};
use psi_daemon::clock;
use psi_daemon::provider::{ProviderError, SecretProvider, Source};
use psi_daemon::reference::{Listing, Reference};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::{Body, assert_words, choice, world};

/// The access token, which no error may quote either.
const TOKEN: &str = "canary-access-token";
/// Longer than anything here takes, and shorter than a fuzzer's patience.
const LIMIT: Duration = Duration::from_secs(8);
/// Projects of one client.
const SHARED: u32 = 100;
const STATUSES: [u16; 16] =
    [200, 200, 200, 201, 204, 301, 307, 400, 401, 403, 404, 422, 429, 500, 502, 503];

/// The first byte chooses what is asked, and whether the rest is a body of JSON, a body of something
/// else, or the whole answer from its first byte on; the second one chooses the status.
pub(crate) fn open() -> Body {
    let runtime = world::runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (mut provider, mut projects) = (None, Vec::new());
    Box::new(move |input| {
        // A client takes longer to make than anything else here, and a project that has logged in is of
        // no more use: many projects share one.
        if projects.is_empty() {
            projects = (0..SHARED).map(|nth| format!("p{nth}")).collect();
            provider = Some(world::infisical(&url, projects.clone()));
        }
        let (provider, project) = (provider.as_ref().unwrap(), projects.pop().unwrap());
        Asked::new(input).run(&runtime, &listener, provider, &project);
    })
}

/// What is asked, and what is answered.
struct Asked<'a> {
    what: What,
    status: u16,
    is_json: bool,
    body: &'a [u8],
    /// What goes over the wire.
    answer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Login,
    Fetch,
    List,
    ListBelow,
}

/// What the server does: one kind of request gets the answer, the other one a good one.
struct Script {
    login: bool,
    answer: Vec<u8>,
}

/// What came of it.
enum Got {
    Value(SecretBytes),
    Listing(Listing),
}

impl<'a> Asked<'a> {
    fn new(input: &'a [u8]) -> Self {
        let (chosen, rest) = choice(input);
        let what = [What::Login, What::Fetch, What::List, What::ListBelow][usize::from(chosen & 3)];
        let kind = match chosen >> 2 & 3 {
            0 => {
                return Self { what, status: 0, is_json: false, body: rest, answer: rest.to_vec() };
            }
            1 => "text/html",
            _ => "application/json; charset=utf-8",
        };
        let (status, body) = choice(rest);
        let status = STATUSES[usize::from(status) % STATUSES.len()];
        let mut answer = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        answer.extend_from_slice(body);
        Self { what, status, is_json: kind != "text/html", body, answer }
    }

    fn run(
        &self,
        runtime: &Runtime,
        listener: &TcpListener,
        provider: &impl SecretProvider,
        project: &str,
    ) {
        let got = runtime.block_on(async {
            let ask = tokio::time::timeout(LIMIT, self.ask(provider, project));
            let script = Script { login: self.what == What::Login, answer: self.answer.clone() };
            tokio::select! {
                got = ask => got.expect("no end of it"),
                never = serve(listener, Arc::new(script)) => never,
            }
        });
        match got {
            Ok(got) => self.judge(got),
            Err(error) => self.judge_error(&error),
        }
    }

    async fn ask(
        &self,
        provider: &impl SecretProvider,
        project: &str,
    ) -> Result<Got, ProviderError> {
        if matches!(self.what, What::Login | What::Fetch) {
            let members = [("project", project), ("path", "/app"), ("key", "KEY")];
            let reference = Reference::new("infisical", members);
            return provider.fetch(&reference).await.map(Got::Value);
        }
        let recursive = self.what == What::ListBelow;
        let source = Source { project: project.into(), path: "/app".into(), recursive };
        provider.list(&source, &BTreeSet::from(["/app/sub".to_owned()])).await.map(Got::Listing)
    }

    /// Only a JSON 200 has values, and they are those in it.
    fn judge(&self, got: Got) {
        if self.status != 0 {
            assert_eq!((self.status, self.is_json), (200, true));
        }
        let body = serde_json::from_slice::<Value>(self.body).unwrap_or_default();
        match got {
            Got::Value(value) if self.what == What::Login => {
                assert_eq!(value.expose_secret(), world::VALUE);
            }
            Got::Value(value) if self.status != 0 => {
                let value = std::str::from_utf8(value.expose_secret()).unwrap();
                assert!(has(&body, value), "{value} is not in {body}");
            }
            Got::Value(_) => {}
            Got::Listing(listing) => keep(listing),
        }
    }

    /// Only Infisical itself can say no; and no error quotes what it was sent.
    fn judge_error(&self, error: &ProviderError) {
        let words = error.to_string();
        assert_words(&words);
        for secret in [world::CLIENT_SECRET, TOKEN] {
            assert!(!words.contains(secret), "{words}");
        }
        let says_no = matches!(error, ProviderError::NotFound(_) | ProviderError::Denied(_));
        if says_no && self.status != 0 && self.what != What::Login {
            let body = serde_json::from_slice::<Value>(self.body).unwrap_or_default();
            let signed = body["reqId"].is_string() && body["statusCode"] == self.status;
            let hides = self.status == 200 && words.contains("hides the value");
            assert!(self.is_json && (signed || hides), "{} {words}", self.status);
        }
    }
}

fn has(body: &Value, text: &str) -> bool {
    match body {
        Value::String(found) => found == text,
        Value::Array(list) => list.iter().any(|body| has(body, text)),
        Value::Object(members) => members.values().any(|body| has(body, text)),
        _ => false,
    }
}

/// Whatever was listed, the cache takes it.
fn keep(listing: Listing) {
    let mut cache = Cache::new(Policy {
        enabled: true,
        fresh_for: Duration::from_secs(3_600),
        max_stale: None,
        evict_revoked: true,
    });
    let found: BTreeSet<_> = listing.found.iter().map(|(at, _)| at.clone()).collect();
    assert_eq!(found.len(), listing.found.len(), "one secret, one value");
    assert!(found.iter().all(|at| at.path.starts_with('/') && !at.path.contains("//")));
    let now = clock::now().wall;
    let counts = cache.replace(listing, cache.ticket(), now, now);
    assert_eq!((counts.added, cache.len()), (found.len() as u64, found.len()));
}

async fn serve(listener: &TcpListener, script: Arc<Script>) -> ! {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve_one(stream, Arc::clone(&script)));
    }
}

/// Until it has given its answer. Whoever hangs up before has had enough.
async fn serve_one(stream: TcpStream, script: Arc<Script>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let is_login = read_request(&mut stream).await?;
        if is_login == script.login {
            return stream.get_mut().write_all(&script.answer).await;
        }
        let good = if is_login {
            format!("{{\"accessToken\":\"{TOKEN}\",\"expiresIn\":900}}")
        } else {
            r#"{"secret":{"secretKey":"KEY","secretValue":"the value"}}"#.to_owned()
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        let good = format!("{head}{}\r\n\r\n{good}", good.len());
        stream.get_mut().write_all(good.as_bytes()).await?;
    }
}

/// Reads one request to its end; true for a login.
async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<bool> {
    let mut first = String::new();
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(first.starts_with("POST"))
}
