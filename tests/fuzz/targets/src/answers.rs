//! HTTP answers of Infisical, of a cloud's metadata service, or of something in their place.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretBytes;
use psi_daemon::testing::cache::{Cache, FetchEpoch, Policy, ReconcileOptions};
use psi_daemon::testing::model::clock;
use psi_daemon::testing::model::reference::{Listing, Reference};
use psi_daemon::testing::provider::infisical::{AwsIam, Azure, Gcp, Method};
use psi_daemon::testing::provider::{ProviderError, SecretProvider, Source};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use url::Url;

use crate::{Body, assert_words, choice, fixture};

/// The access token, which no error may quote.
const TOKEN: &str = "canary-access-token";
/// Longer than anything here takes, and shorter than a fuzzer's time limit.
const LIMIT: Duration = Duration::from_secs(8);
/// Projects of one client, for each cloud.
const SHARED: u32 = 100;
const STATUSES: [u16; 17] =
    [200, 200, 200, 201, 204, 301, 307, 400, 401, 403, 404, 422, 429, 500, 502, 503, 304];

/// The first byte chooses the request, and whether the rest is a JSON body, another body, or the
/// whole answer; the second one chooses the status. Its higher bits choose a cloud, whose metadata
/// service then gives the answer to every request.
pub(crate) fn open() -> Body {
    let runtime = fixture::runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (mut provider, mut left) = (None, 0);
    Box::new(move |input| {
        // A client is slow to make, and a project that has logged in cannot be used again: many
        // projects share one.
        if left == 0 {
            left = SHARED;
            let numbers = (1..=SHARED).flat_map(|number| CLOUDS.map(|cloud| (cloud, number)));
            let projects =
                numbers.map(|(cloud, number)| (format!("{cloud:?}{number}"), cloud.method(&url)));
            provider = Some(fixture::infisical(url.as_str(), projects));
        }
        Asked::new(input, left).run(&runtime, &listener, provider.as_ref().unwrap());
        left -= 1;
    })
}

/// A request and its answer.
struct Asked<'a> {
    what: What,
    cloud: Cloud,
    project: String,
    status: u16,
    is_json: bool,
    body: &'a [u8],
    /// The bytes on the wire.
    answer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Login,
    Fetch,
    List,
    ListBelow,
}

/// The source of a login's proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cloud {
    None,
    Aws,
    Azure,
    Gcp,
}

const CLOUDS: [Cloud; 4] = [Cloud::None, Cloud::Aws, Cloud::Azure, Cloud::Gcp];

/// The server's behaviour: one kind of request gets the answer, the others a valid one.
struct Script {
    answered: Kind,
    answer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Metadata,
    Login,
    Read,
}

/// The outcome.
enum Got {
    Value(SecretBytes),
    Listing(Listing),
}

impl<'a> Asked<'a> {
    fn new(input: &'a [u8], number: u32) -> Self {
        let (chosen, rest) = choice(input);
        let what = [What::Login, What::Fetch, What::List, What::ListBelow][usize::from(chosen & 3)];
        let cloud = CLOUDS[usize::from(chosen >> 4 & 3)];
        let project = format!("{cloud:?}{number}");
        let kind = match chosen >> 2 & 3 {
            0 => {
                let answer = rest.to_vec();
                return Self {
                    what,
                    cloud,
                    project,
                    status: 0,
                    is_json: false,
                    body: rest,
                    answer,
                };
            }
            1 => "text/html",
            _ => "application/json; charset=utf-8",
        };
        let (status, body) = choice(rest);
        let status = STATUSES[usize::from(status) % STATUSES.len()];
        let head = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\nmetadata-flavor: Google\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let answer = [head.as_bytes(), body].concat();
        Self { what, cloud, project, status, is_json: kind != "text/html", body, answer }
    }

    fn run(&self, runtime: &Runtime, listener: &TcpListener, provider: &impl SecretProvider) {
        let answered = match (self.cloud, self.what) {
            (Cloud::None, What::Login) => Kind::Login,
            (Cloud::None, _) => Kind::Read,
            _ => Kind::Metadata,
        };
        let got = runtime.block_on(async {
            let ask = tokio::time::timeout(LIMIT, self.ask(provider));
            let script = Script { answered, answer: self.answer.clone() };
            tokio::select! {
                got = ask => got.expect("no end of it"),
                never = serve(listener, Arc::new(script)) => never,
            }
        });
        match got {
            // With any valid proof, the rest is as usual.
            Ok(_) if answered == Kind::Metadata => {}
            Ok(got) => self.check(got),
            Err(error) => self.check_error(&error),
        }
    }

    async fn ask(&self, provider: &impl SecretProvider) -> Result<Got, ProviderError> {
        if matches!(self.what, What::Login | What::Fetch) {
            let members = [("project", self.project.as_str()), ("path", "/app"), ("key", "KEY")];
            let reference = Reference::new("infisical", members);
            return provider
                .fetch(&reference, FetchEpoch::default())
                .await
                .map(|fetched| Got::Value(fetched.value));
        }
        let recursive = self.what == What::ListBelow;
        let source = Source { project: self.project.clone(), path: "/app".into(), recursive };
        provider
            .list(&source, &BTreeSet::from(["/app/sub".to_owned()]))
            .await
            .map(|listed| Got::Listing(listed.listing))
    }

    /// Only a JSON 200 has values, and the outcome has exactly those.
    fn check(&self, got: Got) {
        if self.status != 0 {
            assert_eq!((self.status, self.is_json), (200, true));
        }
        let body = serde_json::from_slice::<Value>(self.body).unwrap_or_default();
        match got {
            Got::Value(value) if self.what == What::Login => {
                assert_eq!(value.expose_secret(), fixture::VALUE);
            }
            Got::Value(value) if self.status != 0 => {
                let value = std::str::from_utf8(value.expose_secret()).unwrap();
                assert!(has(&body, value), "{value} is not in {body}");
            }
            Got::Value(_) => {}
            Got::Listing(listing) => keep(listing),
        }
    }

    /// Only Infisical itself can deny a secret; and no error quotes a request.
    fn check_error(&self, error: &ProviderError) {
        let words = error.to_string();
        assert_words(&words);
        for secret in [fixture::CLIENT_SECRET, TOKEN] {
            assert!(!words.contains(secret), "{words}");
        }
        let is_denial = matches!(error, ProviderError::NotFound(_) | ProviderError::Denied(_));
        assert!(!is_denial || self.cloud == Cloud::None, "a cloud says no: {words}");
        if is_denial && self.status != 0 && self.what != What::Login {
            let body = serde_json::from_slice::<Value>(self.body).unwrap_or_default();
            let signed = body["reqId"].is_string() && body["statusCode"] == self.status;
            let hides = self.status == 200 && words.contains("hides the value");
            let lacks = self.status == 200 && words.contains("has no secret 'KEY'");
            assert!(self.is_json && (signed || hides || lacks), "{} {words}", self.status);
            assert!(!lacks || lists_no_key(&body), "{body}");
        }
    }
}

/// Whether a listing's own secrets lack the requested one.
fn lists_no_key(body: &Value) -> bool {
    let is_asked = |secret: &Value| {
        let path = secret["secretPath"].as_str().unwrap_or("/app");
        secret["secretKey"] == "KEY" && path == "/app"
    };
    !body["secrets"].as_array().is_some_and(|secrets| secrets.iter().any(is_asked))
}

fn has(body: &Value, text: &str) -> bool {
    match body {
        Value::String(found) => found == text,
        Value::Array(list) => list.iter().any(|body| has(body, text)),
        Value::Object(members) => members.values().any(|body| has(body, text)),
        _ => false,
    }
}

/// The cache accepts every listing.
fn keep(listing: Listing) {
    let cache = Cache::new(
        Policy {
            enabled: true,
            fresh_for: Duration::from_secs(3_600),
            max_stale: None,
            evict_revoked: true,
        },
        fixture::boot(),
    );
    let found: BTreeSet<_> = listing.found.iter().map(|(at, _)| at.clone()).collect();
    assert_eq!(found.len(), listing.found.len(), "one secret, one value");
    assert!(found.iter().all(|at| at.path.starts_with('/') && !at.path.contains("//")));
    let now = clock::now();
    let taking = ReconcileOptions {
        epoch: cache.begin_fetch(),
        began: now,
        now,
        accept: false,
        wanted: &|_| true,
    };
    let counts = cache.reconcile(listing, &taking);
    assert_eq!((counts.added, cache.len()), (found.len() as u64, found.len()));
}

async fn serve(listener: &TcpListener, script: Arc<Script>) -> ! {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve_one(stream, Arc::clone(&script)));
    }
}

/// Serves until it has given its answer, or the client disconnects.
async fn serve_one(stream: TcpStream, script: Arc<Script>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let kind = read_request(&mut stream).await?;
        if kind == script.answered {
            return stream.get_mut().write_all(&script.answer).await;
        }
        let good = match kind {
            Kind::Login => format!("{{\"accessToken\":\"{TOKEN}\",\"expiresIn\":900}}"),
            _ => r#"{"secret":{"secretKey":"KEY","secretValue":"the value"},
                    "secrets":[{"secretKey":"KEY","secretValue":"the value"}]}"#
                .into(),
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        let good = format!("{head}{}\r\n\r\n{good}", good.len());
        stream.get_mut().write_all(good.as_bytes()).await?;
    }
}

impl Cloud {
    fn method(self, metadata_url: &Url) -> Box<dyn Method> {
        let (identity_id, metadata_url) = ("identity".to_owned(), metadata_url.clone());
        match self {
            Self::None => fixture::universal_auth(),
            Self::Aws => Box::new(AwsIam { identity_id, region: None, metadata_url }),
            Self::Azure => {
                let resource = "https://management.azure.com/".into();
                Box::new(Azure { identity_id, resource, client_id: None, metadata_url })
            }
            Self::Gcp => Box::new(Gcp { identity_id, metadata_url }),
        }
    }
}

/// Reads one complete request.
async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Kind> {
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
    Ok(match first.split_once(' ').unwrap() {
        (_, path) if !path.starts_with("/api/") => Kind::Metadata,
        ("POST", _) => Kind::Login,
        _ => Kind::Read,
    })
}
