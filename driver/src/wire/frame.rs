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

/// The largest payload that either side may send, unless its peer's settings say otherwise.
pub(super) const MAX_PAYLOAD: usize = 16_384;
const HEAD: usize = 9;
/// What is read at once, until a frame is larger.
const SMALL: usize = 2_048;

/// One frame; its payload is wiped when it goes.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Zeroizing<Vec<u8>>,
}

/// Appends a frame to what is about to be sent.
pub(super) fn append(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A stream of frames with one deadline for all.
pub(super) struct Frames {
    stream: UnixStream,
    deadline: Instant,
    /// What was read and not taken yet is from `taken` to `held`.
    buffer: Zeroizing<Vec<u8>>,
    taken: usize,
    held: usize,
}

impl Frames {
    pub(super) fn new(stream: UnixStream, deadline: Instant) -> Self {
        Self { stream, deadline, buffer: Zeroizing::new(Vec::new()), taken: 0, held: 0 }
    }

    /// Writes all of `bytes`.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?)).map_err(|error| gone(&error))?;
            match self.stream.write(rest) {
                Ok(0) => return Err(TransportError::Gone("it was closed".into())),
                Ok(written) => rest = &rest[written..],
                Err(error) => self.on_io_error(&error)?,
            }
        }
        Ok(())
    }

    /// Reads the next frame.
    pub(super) fn next(&mut self) -> Result<Frame, TransportError> {
        let head = self.fill(HEAD)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        // The first bit is reserved.
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        if length > MAX_PAYLOAD {
            return Err(TransportError::Protocol(format!(
                "a frame of {length} bytes, of kind {kind}: it speaks no HTTP/2"
            )));
        }
        let payload = Zeroizing::new(self.fill(HEAD + length)?[HEAD..].to_vec());
        self.taken += HEAD + length;
        Ok(Frame { kind, flags, stream, payload })
    }

    /// The next `count` bytes, without taking them.
    fn fill(&mut self, count: usize) -> Result<&[u8], TransportError> {
        while self.held - self.taken < count {
            self.read_more(count)?;
        }
        Ok(&self.buffer[self.taken..self.taken + count])
    }

    /// Reads more, into a buffer that can hold `count` bytes.
    fn read_more(&mut self, count: usize) -> Result<(), TransportError> {
        // Most answers are small, and each page that is touched for the first time costs a fault.
        let room = if count > SMALL { 2 * (HEAD + MAX_PAYLOAD) } else { SMALL };
        let rest = self.taken..self.held;
        if self.buffer.len() < room {
            // The old one is wiped: growing in place would leave a copy behind.
            let mut larger = Zeroizing::new(vec![0; room]);
            larger[..rest.len()].copy_from_slice(&self.buffer[rest.clone()]);
            self.buffer = larger;
        } else {
            self.buffer.copy_within(rest.clone(), 0);
        }
        (self.taken, self.held) = (0, rest.len());
        self.stream.set_read_timeout(Some(self.left()?)).map_err(|error| gone(&error))?;
        match self.stream.read(&mut self.buffer[self.held..]) {
            Ok(0) => Err(TransportError::Gone("it was closed".into())),
            Ok(read) => {
                self.held += read;
                Ok(())
            }
            Err(error) => self.on_io_error(&error),
        }
    }

    /// What is left of the time; never zero, which would mean no limit.
    fn left(&self) -> Result<Duration, TransportError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(TransportError::Late)
        } else {
            Ok(left.max(Duration::from_millis(1)))
        }
    }

    fn on_io_error(&self, error: &io::Error) -> Result<(), TransportError> {
        match error.kind() {
            ErrorKind::Interrupted => Ok(()),
            // The deadline is judged where the time is told.
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.left().map(|_| ()),
            _ => Err(gone(error)),
        }
    }
}

fn gone(error: &io::Error) -> TransportError {
    TransportError::Gone(error.to_string())
}
