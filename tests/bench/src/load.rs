//! Concurrent calls of psid over one connection.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use psi_proto::Message;
use psi_proto::v1::{LookupRequest, StoreRequest, lookup_request};
use tokio::net::UnixStream;

use crate::{Failure, Result};

const LOOKUP: &str = "psi.v1.SecretDriver/Lookup";
const STORE: &str = "psi.v1.SecretDriver/Store";

/// A connection, on the runtime that made it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    _driver: Rc<Driver>,
}

/// The task of the connection; it ends with the last use.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A call, ready to be sent many times.
#[derive(Clone)]
pub struct Call {
    method: &'static str,
    frame: Bytes,
}

impl Call {
    /// A lookup by podman's id.
    pub fn lookup(id: &str) -> Self {
        Self::of(LOOKUP, &LookupRequest { key: Some(lookup_request::Key::Id(id.into())) })
    }

    /// A lookup by reference.
    pub fn lookup_by_reference(reference: &str) -> Self {
        Self::of(LOOKUP, &LookupRequest { key: Some(lookup_request::Key::Name(reference.into())) })
    }

    /// A store.
    pub fn store(id: &str, data: &[u8]) -> Self {
        let (id, data) = (id.into(), data.to_vec());
        Self::of(STORE, &StoreRequest { id, data, ..StoreRequest::default() })
    }

    fn of(method: &'static str, message: &impl Message) -> Self {
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        Self { method, frame: [&[0], &length[..], &message].concat().into() }
    }
}

impl Connection {
    pub async fn open(socket: &Path) -> Result<Self> {
        // One call at a time until psid has announced its limit.
        let mut client = h2::client::Builder::new();
        client.initial_max_send_streams(1);
        let (sender, connection) = client.handshake(UnixStream::connect(socket).await?).await?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, _driver: Rc::new(Driver(driver)) })
    }

    /// Makes a call that must succeed; returns the number of bytes of its answer.
    pub async fn call(&self, call: &Call) -> Result<usize> {
        let request = Request::post(format!("http://psid/{}", call.method))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(request, false)?;
        stream.send_data(call.frame.clone(), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut length = 0;
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            length += chunk.len();
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let field = |name: &str| trailers.get(name).or_else(|| head.headers.get(name)).cloned();
        match field("grpc-status") {
            Some(status) if status == "0" => Ok(length),
            status => {
                Err(format!("{}: {status:?} {:?}", call.method, field("grpc-message")).into())
            }
        }
    }
}

/// Runs a measurement on a thread of its own, on which the load is made.
pub fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// Calls over one connection for a while, `in_flight` at a time, each of `calls` in turn; returns
/// the rate per second.
pub async fn rate(
    connection: &Connection,
    calls: &Rc<[Call]>,
    in_flight: usize,
    span: Duration,
) -> Result<f64> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|task| {
            let (connection, calls) = (connection.clone(), Rc::clone(calls));
            tokio::task::spawn_local(async move {
                let mut count = 0_u64;
                while start.elapsed() < span {
                    let call = &calls[(task + count as usize * in_flight) % calls.len()];
                    connection.call(call).await?;
                    count += 1;
                }
                Ok::<_, Failure>(count)
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Makes each call once, `in_flight` at a time.
pub async fn all(connection: &Connection, calls: &Rc<[Call]>, in_flight: usize) -> Result<()> {
    let tasks: Vec<_> = (0..in_flight)
        .map(|task| {
            let (connection, calls) = (connection.clone(), Rc::clone(calls));
            tokio::task::spawn_local(async move {
                for call in calls.iter().skip(task).step_by(in_flight) {
                    connection.call(call).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
