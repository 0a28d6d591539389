//! Frames of HTTP/2 (RFC 9113, sections 4 and 6), over a blocking stream with one deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::TransportError;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 32;

/// The initial maximum frame size of HTTP/2.
pub(super) const MAX_PAYLOAD: usize = 16_384;
const HEADER_BYTES: usize = 9;
/// The initial size of the read buffer.
const SMALL: usize = 2_048;

/// One frame; the payload is wiped on drop.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Zeroizing<Vec<u8>>,
}

/// Appends a frame to a buffer.
pub(super) fn append(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A connection of frames, with one deadline.
pub(super) struct Connection {
    stream: UnixStream,
    deadline: Instant,
    /// The bytes from `consumed` to `filled` were received and not processed yet.
    buffer: Zeroizing<Vec<u8>>,
    consumed: usize,
    filled: usize,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, deadline: Instant) -> Self {
        Self { stream, deadline, buffer: Zeroizing::new(Vec::new()), consumed: 0, filled: 0 }
    }

    /// Writes all of `bytes`.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stream
                .set_write_timeout(Some(self.remaining()?))
                .map_err(|error| connection_lost(&error))?;
            match self.stream.write(rest) {
                Ok(0) => return Err(TransportError::ConnectionLost("the peer closed it".into())),
                Ok(written) => rest = &rest[written..],
                Err(error) => self.on_io_error(&error)?,
            }
        }
        Ok(())
    }

    /// Reads the next frame.
    pub(super) fn next(&mut self) -> Result<Frame, TransportError> {
        let head = self.buffered(HEADER_BYTES)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        // The first bit is reserved.
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        if length > MAX_PAYLOAD {
            return Err(TransportError::Protocol(format!(
                "a frame of {length} bytes and type {kind}, beyond the limit of HTTP/2"
            )));
        }
        let payload =
            Zeroizing::new(self.buffered(HEADER_BYTES + length)?[HEADER_BYTES..].to_vec());
        self.consumed += HEADER_BYTES + length;
        Ok(Frame { kind, flags, stream, payload })
    }

    /// The next `count` bytes, which are not consumed.
    fn buffered(&mut self, count: usize) -> Result<&[u8], TransportError> {
        while self.filled - self.consumed < count {
            self.read_more(count)?;
        }
        Ok(&self.buffer[self.consumed..self.consumed + count])
    }

    /// Reads more, into a buffer that can hold `count` bytes.
    fn read_more(&mut self, count: usize) -> Result<(), TransportError> {
        // Most responses are small, and the first access to each page costs a page fault.
        let room = if count > SMALL { 2 * (HEADER_BYTES + MAX_PAYLOAD) } else { SMALL };
        let rest = self.consumed..self.filled;
        if self.buffer.len() < room {
            // A buffer that grows in place would leave a copy of a secret behind; this wipes the old one.
            let mut larger = Zeroizing::new(vec![0; room]);
            larger[..rest.len()].copy_from_slice(&self.buffer[rest.clone()]);
            self.buffer = larger;
        } else {
            self.buffer.copy_within(rest.clone(), 0);
        }
        (self.consumed, self.filled) = (0, rest.len());
        self.stream
            .set_read_timeout(Some(self.remaining()?))
            .map_err(|error| connection_lost(&error))?;
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => Err(TransportError::ConnectionLost("the peer closed it".into())),
            Ok(read) => {
                self.filled += read;
                Ok(())
            }
            Err(error) => self.on_io_error(&error),
        }
    }

    /// The time until the deadline; never zero, which would mean no timeout.
    fn remaining(&self) -> Result<Duration, TransportError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(TransportError::DeadlineExceeded)
        } else {
            Ok(left.max(Duration::from_millis(1)))
        }
    }

    fn on_io_error(&self, error: &io::Error) -> Result<(), TransportError> {
        match error.kind() {
            ErrorKind::Interrupted => Ok(()),
            // A socket timeout is rounded: the clock decides whether the deadline passed.
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.remaining().map(|_| ()),
            _ => Err(connection_lost(error)),
        }
    }
}

fn connection_lost(error: &io::Error) -> TransportError {
    TransportError::ConnectionLost(error.to_string())
}
