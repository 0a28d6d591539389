//! One HTTP/2 connection over the socket, and why it broke, if it did.
//!
//! Not tonic's own channel: that one connects again behind our back, and hides the first cause.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tonic::body::Body;

/// After a failed call, the connection's own task has its cause at once.
const CAUSE_COMES: Duration = Duration::from_millis(500);

/// A connection; it closes on drop.
pub(crate) struct Connection {
    sender: http2::SendRequest<Body>,
    task: JoinHandle<hyper::Result<()>>,
}

/// Why a connection broke.
pub(crate) enum Broken {
    /// The other end went away: another attempt may find it again.
    Gone(String),
    /// The other end speaks something else.
    Protocol(String),
}

/// The sending half, as generated clients want it.
#[derive(Clone)]
pub(crate) struct Sender(http2::SendRequest<Body>);

impl Connection {
    /// Begins HTTP/2 on a connected stream, which needs no answer to begin with.
    pub(crate) async fn open(stream: UnixStream) -> Result<Self, Broken> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| Broken::of(&error))?;
        Ok(Self { sender, task: tokio::spawn(connection) })
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender(self.sender.clone())
    }

    /// Why it broke, once a call has failed on it.
    pub(crate) async fn cause(self) -> Broken {
        drop(self.sender);
        let ended = tokio::time::timeout(CAUSE_COMES, self.task).await;
        let Ok(Ok(Err(error))) = ended else { return Broken::Gone("it was closed".into()) };
        Broken::of(&error)
    }
}

impl Broken {
    fn of(error: &hyper::Error) -> Self {
        let mut cause: &(dyn Error + 'static) = error;
        loop {
            if let Some(http2) = cause.downcast_ref::<h2::Error>()
                && !http2.is_io()
                && http2.reason() != Some(h2::Reason::NO_ERROR)
            {
                return Self::Protocol(http2.to_string());
            }
            match cause.source() {
                Some(next) => cause = next,
                None => return Self::Gone(cause.to_string()),
            }
        }
    }
}

impl tower_service::Service<http::Request<Body>> for Sender {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
