//! Accepted connections. Callers without permission share a few connections, and each user has a limited number, so that
//! they cannot exhaust those of others. A connection is closed if the client does not send the HTTP/2 preface in time, does
//! not answer pings, or does not read what it is sent. What a user sends is read at a limited rate: frames that cost psid
//! more than the user, as pings do, must not delay root's lookups.

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
use super::rate::Pace;

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
/// The pause of the users' socket after some refused connections, and their number.
const REFUSED_BACKOFF: Duration = Duration::from_millis(1);
const REFUSED: u32 = 5;
/// How often a connection that sends too much checks whether it may go on: the content of requests does not count, once
/// psid knows that it is.
const PAUSE: Duration = Duration::from_millis(50);

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
    /// How fast its bytes are read, unless it is root's or psid's own user's.
    pace: Option<Arc<Pace>>,
    /// The timer while nothing is read.
    pause_timer: Option<Timer>,
}

type Timer = Pin<Box<Sleep>>;

/// What a connection has of the limits; nothing if it is root's or psid's own user's.
#[derive(Default)]
struct Share {
    /// Among callers without permission.
    place: Option<OwnedSemaphorePermit>,
    pace: Option<Arc<Pace>>,
}

impl Connection {
    fn new(stream: UnixStream, peer: Peer, share: Share) -> Self {
        let Share { place, pace } = share;
        let peer = peer.accepted(&stream);
        Self {
            stream,
            peer,
            _place: place,
            pace,
            pause_timer: None,
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

    /// Whether too much was received to read on now; if so, wakes the task later.
    fn is_paused(&mut self, context: &mut Context<'_>) -> bool {
        let Some(pace) = &self.pace else { return false };
        loop {
            if let Some(timer) = &mut self.pause_timer
                && timer.as_mut().poll(context).is_pending()
            {
                return true;
            }
            let pause = pace.pause(Instant::now());
            if pause.is_zero() {
                self.pause_timer = None;
                return false;
            }
            self.pause_timer = Some(Box::pin(sleep_until(Instant::now() + pause.min(PAUSE))));
        }
    }

    /// Whether a read must end the connection: it was idle for too long, or its preface is overdue.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.is_too_late(context) || self.is_idle(context)
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
    let limits = Limits::new();
    let share = move |peer: &mut Peer| {
        if !authorizer.knows(peer) {
            let place = Arc::clone(&unauthorized).try_acquire_owned().ok()?;
            return Some(Share { place: Some(place), pace: Some(limits.pace_of_strangers()) });
        }
        if peer.is_admin() {
            return Some(Share::default());
        }
        let connection = limits.connect(peer.uid)?;
        let pace = Some(connection.pace());
        peer.connection = Some(connection);
        Some(Share { place: None, pace })
    };
    tokio::spawn(async move {
        let pause = async |span| drop(tokio::time::timeout(span, stop.cancelled()).await);
        let mut refused = 0;
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                stream = listener.accept() => stream,
            };
            let Ok((stream, _)) = stream else {
                pause(ACCEPT_BACKOFF).await;
                continue;
            };
            let Some(mut peer) = Peer::of(&stream, door) else { continue };
            let Some(share) = share(&mut peer) else {
                refused += 1;
                if refused % REFUSED == 0 {
                    pause(REFUSED_BACKOFF).await;
                }
                continue;
            };
            let connection = Connection::new(stream, peer, share);
            if accepted.send(Ok(connection)).await.is_err() {
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
        let read = match this.is_paused(context) {
            true => Poll::Pending,
            false => Pin::new(&mut this.stream).poll_read(context, buffer),
        };
        // A user's connection that never stops sending is over too.
        if (read.is_pending() || this.pace.is_some()) && this.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                let count = buffer.filled().len() - before;
                this.received = this.received.saturating_add(count);
                if let Some(pace) = &this.pace {
                    pace.received(count);
                }
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
        (Connection::new(ours, peer, Share::default()), theirs)
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

    /// Pings each second do not keep a connection without a call, nor bytes that never end.
    #[tokio::test(start_paused = true)]
    async fn users_connection_that_never_stops_sending_is_read_slowly_and_then_closed() {
        let (mut connection, mut theirs) = pair();
        let users = Limits::new().connect(1).unwrap();
        connection.pace = Some(users.pace());
        connection.peer.connection = Some(users);
        tokio::spawn(async move { while theirs.write_all(&[0; 1_024]).await.is_ok() {} });
        let (start, mut received, mut buffer) = (Instant::now(), 0, [0; 8_192]);
        let error = loop {
            match connection.read(&mut buffer).await {
                Ok(count) => received += count,
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 10));
        // At once, and in 10 s.
        let most = (256 << 10) * 11;
        assert!((most / 2..most + 65_536).contains(&received), "{received}");
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
