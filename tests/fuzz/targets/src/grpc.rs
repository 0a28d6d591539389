//! Raw bytes on psid's socket, and calls with any message.

use std::sync::Arc;
use std::time::Duration;

use h2::client::SendRequest;
use http::{HeaderMap, Request};
use psi_daemon::testing::keys::credential::{Creds, Scope};
use psi_daemon::testing::runtime::build::{self, Environment};
use psi_daemon::testing::{grpc, runtime::listener};
use psi_mutation::frames;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::{Body, assert_words, choice, fixture};

/// Longer than any answer here takes, and shorter than a fuzzer's time limit.
const LIMIT: Duration = Duration::from_secs(8);
/// The limit of psi-driver (hyper's default).
const LARGEST_HEADERS: u32 = 16 << 10;
/// The methods, one of which the first byte of a call chooses.
const METHODS: [&str; 19] = [
    "psi.v1.SecretDriver/Lookup",
    "psi.v1.SecretDriver/Store",
    "psi.v1.SecretDriver/Delete",
    "psi.v1.SecretDriver/List",
    "psi.v1.SecretDriver/Restore",
    "psi.v1.SecretDriver/Restorable",
    "psi.v1.CacheAdmin/Status",
    "psi.v1.CacheAdmin/Refresh",
    "psi.v1.CacheAdmin/Invalidate",
    "psi.v1.NoSuchService/Method",
    "grpc.health.v1.Health/Check",
    "psi.v1.HsmAdmin/Seal",
    "psi.v1.HsmAdmin/HsmStatus",
    "psi.v1.CacheAdmin/Recover",
    "psi.v1.CacheAdmin/MakeRecoveryKey",
    "psi.v1.ImportAdmin/Import",
    "psi.v1.WorkloadAdmin/Plan",
    "psi.v1.WorkloadAdmin/Registrations",
    "psi.v1.WorkloadAdmin/Repoint",
];
/// `LookupRequest { name: {"provider":"infisical","project":"p","path":"/app","key":"KEY"} }`
const LOOKUP: &[u8] =
    b"\x12\x40{\"provider\":\"infisical\",\"project\":\"p\",\"path\":\"/app\",\"key\":\"KEY\"}";

/// 0: a call whose message is the rest. 1: frames after a valid beginning. Anything else: raw
/// bytes.
pub(crate) fn open() -> Body {
    let psid = Psid::start();
    Box::new(move |input| {
        match choice(input) {
            (0, rest) => psid.call(rest),
            (1, rest) => psid.raw(&frames::connection(rest)),
            _ => psid.raw(input),
        }
        psid.assert_well();
    })
}

/// A psid in this process, complete except for its provider.
struct Psid {
    runtime: Runtime,
    directory: TempDir,
}

impl Psid {
    fn start() -> Self {
        let (runtime, directory) = (fixture::runtime(), fixture::directory());
        std::fs::write(directory.path().join("psi-cache-key"), [7; 32]).unwrap();
        let environment = Environment::new(
            fixture::paths(directory.path()),
            Some(directory.path().to_owned()),
            Creds::Child(Scope::System),
        );
        let config = fixture::config();
        std::fs::write(&environment.paths.config, fixture::CONFIG).unwrap();
        let listening = listener::listen(&environment.paths.socket).unwrap();
        let daemon = build::runtime(&config, &environment);
        let stop = CancellationToken::new();
        runtime.block_on(daemon.open(stop.clone()));
        let degraded: Vec<String> =
            daemon.degraded().into_iter().map(|reason| reason.why).collect();
        assert_eq!(degraded, Vec::<String>::new());
        daemon.service().follow(fixture::upstreams());
        let sockets = grpc::Sockets { admin: listening.admin, users: listening.users };
        runtime.spawn(grpc::serve(Arc::new(daemon), sockets, async {}, stop));
        Self { runtime, directory }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("psid.sock")).await.unwrap()
    }

    /// After the client's last byte, psid answers or closes the connection.
    fn raw(&self, bytes: &[u8]) {
        let exchange = async {
            let mut stream = self.connect().await;
            // psid may close the connection before it has read everything.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let exchange = async { tokio::time::timeout(LIMIT, exchange).await };
        self.runtime.block_on(exchange).expect("psid holds on to a connection that is over");
    }

    /// A well-formed call gets an answer that psi-driver can read, whatever its message is.
    fn call(&self, input: &[u8]) {
        let (method, message) = choice(input);
        let method = METHODS[usize::from(method) % METHODS.len()];
        let answer = self.answer(method, message);
        let status = answer.header("grpc-status").expect("no status").parse::<u8>().unwrap();
        assert!(status <= 16, "{status}");
        // 12: there is no such method; the router answers that without a message.
        if ![0, 12].contains(&status) {
            assert_words(&answer.header("grpc-message").expect("no words"));
        }
    }

    /// Asserts that other clients are served.
    fn assert_well(&self) {
        let answer = self.answer(METHODS[0], LOOKUP);
        assert_eq!(answer.header("grpc-status").as_deref(), Some("0"));
        assert!(answer.data.ends_with(fixture::VALUE));
    }

    fn answer(&self, method: &str, message: &[u8]) -> Answer {
        let call = async {
            let stream = self.connect().await;
            let mut client = h2::client::Builder::new();
            client.max_header_list_size(LARGEST_HEADERS);
            let (sender, connection) = client.handshake(stream).await.unwrap();
            tokio::select! {
                answer = Answer::to(sender, method, message) => answer.unwrap(),
                // The sender is kept until the end, so the connection does not end by itself.
                end = connection => panic!("psid hung up: {end:?}"),
            }
        };
        let call = async { tokio::time::timeout(LIMIT, call).await };
        self.runtime.block_on(call).expect("no answer")
    }
}

struct Answer {
    headers: HeaderMap,
    data: Vec<u8>,
    trailers: HeaderMap,
}

impl Answer {
    async fn to(
        sender: SendRequest<bytes::Bytes>,
        method: &str,
        message: &[u8],
    ) -> Result<Self, h2::Error> {
        let request = Request::post(format!("http://psid/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut sender = sender.ready().await?;
        let (response, mut stream) = sender.send_request(request, false)?;
        let length = u32::try_from(message.len()).unwrap();
        let body = [&[0], &length.to_be_bytes()[..], message].concat();
        stream.send_data(body.into(), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut data = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            data.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        Ok(Self { headers: head.headers, data, trailers })
    }

    /// A trailer, or a header of an answer without a body.
    fn header(&self, name: &str) -> Option<String> {
        let value = self.trailers.get(name).or_else(|| self.headers.get(name))?;
        Some(value.to_str().unwrap().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message is buffered until it is complete, so its size and number are limited: 100 requests
    /// of 3 MiB that never end are refused one by one.
    #[test]
    fn unfinished_requests_use_bounded_memory() {
        let psid = Psid::start();
        psid.assert_well();
        let before = peak_kib();
        let calls = async {
            let (sender, connection) = h2::client::handshake(psid.connect().await).await.unwrap();
            tokio::spawn(connection);
            for _ in 0..100 {
                let mut sender = sender.clone().ready().await.unwrap();
                let request = Request::post("http://psid/psi.v1.SecretDriver/Store")
                    .header("content-type", "application/grpc")
                    .body(())
                    .unwrap();
                let (response, mut stream) = sender.send_request(request, false).unwrap();
                let head = [&[0], &(3_u32 << 20).to_be_bytes()[..]].concat();
                stream.send_data(head.into(), false).unwrap();
                stream.send_data(bytes::Bytes::from_static(&[0; 1 << 20]), false).unwrap();
                let response = response.await.unwrap();
                assert_ne!(response.headers()["grpc-status"], "0");
                assert!(sender.current_max_send_streams() <= 32);
            }
        };
        let calls = async { tokio::time::timeout(10 * LIMIT, calls).await };
        psid.runtime.block_on(calls).expect("psid holds on to requests that are too large");
        psid.assert_well();
        let grown = peak_kib() - before;
        assert!(grown < 64 << 10, "by {grown} KiB");
    }

    /// The peak memory of this process.
    fn peak_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
