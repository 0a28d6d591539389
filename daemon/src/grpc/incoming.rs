//! Accepted connections. Callers without permission share a few connections, and each user has a limited number, so that
//! they cannot exhaust those of others. A connection is closed if the client does not send the HTTP/2 preface in time, does not answer
//! pings, or does not read what it is sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::access::Authorizer;
use super::limits::Limits;
use super::peer::{Door, Peer};

/// Concurrent connections of callers without permission.
const MAX_UNAUTHENTICATED: usize = 8;
/// How long a client may take to send the HTTP/2 preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a write may wait for the client to read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// The length of the HTTP/2 client preface in bytes (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// The pause after a failed accept, for example without free descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// One connection, and its share of the limit.
pub(super) struct Connection {
    stream: UnixStream,
    peer: Peer,
    _place: Option<OwnedSemaphorePermit>,
    /// Received bytes of the preface.
    received: usize,
    accepted: Instant,
    /// The timer while the preface is incomplete.
    preface_timer: Option<Timer>,
    /// The timer while a write waits.
    write_timer: Option<Timer>,
    /// The timer while a user's connection has no call.
    idle_timer: Option<Timer>,
}

type Timer = Pin<Box<Sleep>>;

impl Connection {
    fn new(stream: UnixStream, peer: Peer, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            stream,
            peer,
            _place: place,
            received: 0,
            accepted: Instant::now(),
            preface_timer: None,
            write_timer: None,
            idle_timer: None,
        }
    }

    /// Whether a user's connection has had no call for too long; if not, wakes the task when that may be so.
    fn is_idle(&mut self, context: &mut Context<'_>) -> bool {
        let Some(connection) = &self.peer.connection else { return false };
        let Some(until) = connection.idle_until() else { return false };
        let timer = self.idle_timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context).is_ready()
    }

    /// Whether the preface is overdue; if not, wakes the task when it is.
    fn is_too_late(&mut self, context: &mut Context<'_>) -> bool {
        if self.received >= PREFACE {
            return false;
        }
        let until = self.accepted + PREFACE_TIMEOUT;
        let timer = self.preface_timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        timer.as_mut().poll(context).is_ready()
    }

    /// The result of a write: an error if it has waited for too long.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.write_timer = None;
            return result;
        }
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + WRITE_TIMEOUT)));
        timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The connections of a socket, until `stop`.
pub(super) fn connections(
    listener: UnixListener,
    door: Door,
    authorizer: Authorizer,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (accepted, connections) = mpsc::channel(1);
    let unauthorized = Arc::new(Semaphore::new(MAX_UNAUTHENTICATED));
    let limits = Limits::default();
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                stream = listener.accept() => stream,
            };
            let Ok((stream, _)) = stream else {
                let _ = tokio::time::timeout(ACCEPT_BACKOFF, stop.cancelled()).await;
                continue;
            };
            let Some(mut peer) = Peer::of(&stream, door) else { continue };
            let (mut place, mut has_place) = (None, true);
            if !authorizer.knows(&peer) {
                place = Arc::clone(&unauthorized).try_acquire_owned().ok();
                has_place = place.is_some();
            } else if !peer.is_admin() {
                peer.connection = limits.connect(peer.uid);
                has_place = peer.connection.is_some();
            }
            if has_place && accepted.send(Ok(Connection::new(stream, peer, place))).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(connections)
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Pending if this.is_too_late(context) || this.is_idle(context) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                this.received = this.received.saturating_add(buffer.filled().len() - before);
                if this.received >= PREFACE {
                    this.preface_timer = None;
                }
                Poll::Ready(result)
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(context, result)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours, Door::Admin).unwrap();
        (Connection::new(ours, peer, None), theirs)
    }

    /// Whether the connection is closed after `first` was sent and nothing more.
    async fn is_closed_after(first: &[u8]) -> bool {
        let (mut connection, mut theirs) = pair();
        theirs.write_all(first).await.unwrap();
        let mut buffer = [0; 64];
        if !first.is_empty() {
            assert_eq!(connection.read(&mut buffer).await.unwrap(), first.len());
        }
        let more = tokio::time::timeout(10 * PREFACE_TIMEOUT, connection.read(&mut buffer)).await;
        match more {
            Err(_) => false,
            Ok(result) => {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
                assert_eq!(connection.accepted.elapsed(), PREFACE_TIMEOUT);
                true
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connection_without_preface_is_closed() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        assert!(is_closed_after(b"").await);
        assert!(is_closed_after(&preface[..PREFACE - 1]).await);
        assert!(!is_closed_after(preface).await);
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_is_not_read_is_closed() {
        let (mut connection, mut theirs) = pair();
        let start = Instant::now();
        let sent = tokio::spawn(async move { connection.write_all(&vec![0; 8 << 20]).await });
        // A read restarts the timer.
        tokio::time::advance(WRITE_TIMEOUT / 2).await;
        theirs.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
        let error = sent.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() > WRITE_TIMEOUT);
    }
}
