//! Accepted connections. A caller that may not call is told so, but cannot take the connections of those
//! who may: strangers share a few. Who connects and does not begin to speak is cut off; who begins and then
//! does not speak is, too, for it leaves HTTP/2's pings unanswered; and so is who does not read.

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
use tonic::transport::server::{Connected, UdsConnectInfo};

use super::peer::Authorizer;

/// Connections of callers that `[access]` does not allow, at once.
const MAX_UNAUTHENTICATED: usize = 8;
/// How long a client may take to begin: psi-driver does at once.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may leave unread what it was sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// What an HTTP/2 client begins with has so many bytes (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// After an accept that failed, as when descriptors run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// One connection, with the place it takes.
pub(super) struct Connection {
    stream: UnixStream,
    _place: Option<OwnedSemaphorePermit>,
    /// How many bytes of the preface have come.
    heard: usize,
    accepted: Instant,
    /// The end of psid's patience, while the preface is waited for.
    limit: Option<Limit>,
    /// Likewise, while there is no room for what is to be sent.
    unread: Option<Limit>,
}

type Limit = Pin<Box<Sleep>>;

impl Connection {
    fn new(stream: UnixStream, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            stream,
            _place: place,
            heard: 0,
            accepted: Instant::now(),
            limit: None,
            unread: None,
        }
    }

    /// Whether the client has taken too long to begin; if not, the task is woken when it has.
    fn is_too_late(&mut self, context: &mut Context<'_>) -> bool {
        if self.heard >= PREFACE {
            return false;
        }
        let until = self.accepted + PREFACE_TIMEOUT;
        let limit = self.limit.get_or_insert_with(|| Box::pin(sleep_until(until)));
        limit.as_mut().poll(context).is_ready()
    }

    /// What came of a write: an error, when there has been no room for too long.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.unread = None;
            return result;
        }
        let limit = self
            .unread
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + WRITE_TIMEOUT)));
        limit.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The connections of a socket, until `stop`.
pub(super) fn connections(
    listener: UnixListener,
    judge: Authorizer,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (accepted, connections) = mpsc::channel(1);
    let strangers = Arc::new(Semaphore::new(MAX_UNAUTHENTICATED));
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
            let allowed = stream.peer_cred().is_ok_and(|peer| judge.allows(peer.uid(), peer.gid()));
            let place =
                if allowed { None } else { Arc::clone(&strangers).try_acquire_owned().ok() };
            if (allowed || place.is_some())
                && accepted.send(Ok(Connection::new(stream, place))).await.is_err()
            {
                return;
            }
        }
    });
    ReceiverStream::new(connections)
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
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
            Poll::Pending if this.is_too_late(context) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                this.heard = this.heard.saturating_add(buffer.filled().len() - before);
                if this.heard >= PREFACE {
                    this.limit = None;
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

    /// What comes first, and whether the connection is cut off after it.
    async fn is_cut_off_after(first: &[u8]) -> bool {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours, None);
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
    async fn who_does_not_begin_to_speak_is_cut_off() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        assert!(is_cut_off_after(b"").await);
        assert!(is_cut_off_after(&preface[..PREFACE - 1]).await);
        assert!(!is_cut_off_after(preface).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut_off() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(ours, None);
        let start = Instant::now();
        let sent = tokio::spawn(async move { connection.write_all(&vec![0; 8 << 20]).await });
        // Whoever reads a little has a little more time.
        tokio::time::advance(WRITE_TIMEOUT / 2).await;
        theirs.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
        let error = sent.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() > WRITE_TIMEOUT);
    }
}
