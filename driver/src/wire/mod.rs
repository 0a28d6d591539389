//! One gRPC call on a connected socket, blocking: HTTP/2 (RFC 9113) as far as one call needs it, and gRPC's
//! own framing (grpc/doc/PROTOCOL-HTTP2.md).
//!
//! Podman waits for this program with its lock held, once for each env secret: a runtime and a full HTTP/2
//! stack cost more than the whole call.

mod answer;
mod frame;
mod hpack;
mod huffman;

use std::os::unix::net::UnixStream;
use std::time::Instant;

use zeroize::Zeroizing;

use answer::Answer;
use frame::{Frame, Frames};

/// The connection's preface (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The one stream.
const STREAM: u32 = 1;
/// What either side may send before it is given more, unless its peer's settings say otherwise.
const INITIAL_WINDOW: i64 = 65_535;
/// What psid may send: more than any of its messages, so that it never waits for us.
const OUR_WINDOW: u32 = 8 << 20;
/// The largest block of headers.
const MAX_HEADERS: usize = 64 << 10;
/// Frames that tell nothing of the call; more are an attack, or a defect.
const MAX_IDLE_FRAMES: u32 = 10_000;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransportError {
    /// The other end went away: another attempt may find it again.
    Gone(String),
    /// The other end speaks something else.
    Protocol(String),
    /// The deadline is there.
    Late,
}

/// How a call ended: gRPC's status code, 0 for success, and its message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GrpcStatus {
    pub(crate) code: u32,
    pub(crate) message: String,
}

/// Calls the method at `path` with `request`, and hands each message of the answer over as it comes.
pub(crate) fn call(
    stream: UnixStream,
    deadline: Instant,
    path: &str,
    request: &[u8],
    on_message: &mut dyn FnMut(&[u8]) -> Result<(), TransportError>,
) -> Result<GrpcStatus, TransportError> {
    let mut call = Call {
        frames: Frames::new(stream, deadline),
        headers: hpack::Decoder::default(),
        windows: Windows {
            connection: INITIAL_WINDOW,
            stream: INITIAL_WINDOW,
            initial: INITIAL_WINDOW,
        },
        answer: Answer::default(),
        greeted: false,
        idle: 0,
    };
    call.send(deadline, path, request)?;
    loop {
        while let Some(message) = call.answer.next_message()? {
            on_message(&message)?;
        }
        if let Some(ended) = call.answer.ended.take() {
            return ended;
        }
        call.step()?;
    }
}

struct Call {
    frames: Frames,
    headers: hpack::Decoder,
    windows: Windows,
    answer: Answer,
    /// Whether the other end has begun with its settings, as it must.
    greeted: bool,
    idle: u32,
}

/// How much may still be sent.
struct Windows {
    connection: i64,
    stream: i64,
    initial: i64,
}

impl Call {
    fn send(
        &mut self,
        deadline: Instant,
        path: &str,
        request: &[u8],
    ) -> Result<(), TransportError> {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let block =
            hpack::request(path, u64::try_from(left).unwrap_or(u64::MAX).clamp(1, 99_999_999));
        let mut message = Zeroizing::new(Vec::with_capacity(5 + request.len()));
        message.push(0);
        message.extend_from_slice(&u32::try_from(request.len()).unwrap_or(u32::MAX).to_be_bytes());
        message.extend_from_slice(request);
        let first = message.len().min(frame::MAX_PAYLOAD);
        // Usually that is all: one write, and it fits every window.
        let mut out = Zeroizing::new(Vec::with_capacity(256 + first));
        out.extend_from_slice(PREFACE);
        // ENABLE_PUSH (2) off; INITIAL_WINDOW_SIZE (4).
        let settings = [&[0, 2, 0, 0, 0, 0, 0, 4][..], &OUR_WINDOW.to_be_bytes()].concat();
        frame::append(&mut out, frame::SETTINGS, 0, 0, &settings);
        frame::append(&mut out, frame::WINDOW_UPDATE, 0, 0, &OUR_WINDOW.to_be_bytes());
        frame::append(&mut out, frame::HEADERS, frame::END_HEADERS, STREAM, &block);
        self.append_data(&mut out, &message[..first], first == message.len());
        self.frames.send(&out)?;
        let mut rest = &message[first..];
        while !rest.is_empty() {
            let room =
                usize::try_from(self.windows.connection.min(self.windows.stream)).unwrap_or(0);
            if room == 0 {
                self.step()?;
                // An answer before the request's end is a refusal.
                if self.answer.ended.is_some() {
                    return Ok(());
                }
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(room).min(frame::MAX_PAYLOAD));
            out.clear();
            self.append_data(&mut out, part, after.is_empty());
            self.frames.send(&out)?;
            rest = after;
        }
        Ok(())
    }

    fn append_data(&mut self, out: &mut Vec<u8>, part: &[u8], is_last: bool) {
        let flags = if is_last { frame::END_STREAM } else { 0 };
        frame::append(out, frame::DATA, flags, STREAM, part);
        let sent = i64::try_from(part.len()).unwrap_or(i64::MAX);
        self.windows.connection -= sent;
        self.windows.stream -= sent;
    }

    /// Reads one frame, and does what it asks for.
    fn step(&mut self) -> Result<(), TransportError> {
        let frame = self.frames.next()?;
        if !self.greeted && (frame.kind != frame::SETTINGS || frame.flags & frame::ACK != 0) {
            return Err(protocol("it does not begin as an HTTP/2 server does"));
        }
        self.greeted = true;
        if frame.stream != 0 && frame.stream != STREAM {
            return Err(protocol("a frame of a stream that nobody opened"));
        }
        let is_ours = frame.stream == STREAM;
        match (frame.kind, is_ours) {
            (frame::DATA, true) => self.answer.data(&frame),
            (frame::HEADERS, true) => {
                let block = self.whole_block(&frame)?;
                let fields = self
                    .headers
                    .decode(&block)
                    .ok_or_else(|| protocol("headers that make no sense"))?;
                self.answer.headers(&fields, frame.flags & frame::END_STREAM != 0)
            }
            (frame::RST_STREAM, true) => Err(reset(error_code(&frame.payload, 0)?)),
            (frame::SETTINGS, false) => self.settings(&frame),
            (frame::PING, false) => self.pong(&frame),
            (frame::GOAWAY, false) => self.goaway(&frame),
            (frame::WINDOW_UPDATE, _) => self.on_window_update(&frame),
            (frame::DATA | frame::HEADERS | frame::RST_STREAM, false)
            | (frame::SETTINGS | frame::PING | frame::GOAWAY, true)
            | (frame::PUSH_PROMISE | frame::CONTINUATION, _) => {
                Err(protocol("a frame where there may be none of its kind"))
            }
            // PRIORITY, and kinds to come (RFC 9113, 5.5).
            _ => self.idle(),
        }
    }

    /// A block of headers, with the frames that continue it.
    fn whole_block(&mut self, first: &Frame) -> Result<Vec<u8>, TransportError> {
        let mut block = unpadded(first)?.to_vec();
        if first.flags & frame::PRIORITY != 0 {
            if block.len() < 5 {
                return Err(protocol("a frame that is too short"));
            }
            block.drain(..5);
        }
        let mut ended = first.flags & frame::END_HEADERS != 0;
        while !ended {
            let more = self.frames.next()?;
            if more.kind != frame::CONTINUATION || more.stream != STREAM {
                return Err(protocol("headers that are not continued"));
            }
            self.idle()?;
            block.extend_from_slice(&more.payload);
            if block.len() > MAX_HEADERS {
                return Err(protocol("too many headers"));
            }
            ended = more.flags & frame::END_HEADERS != 0;
        }
        Ok(block)
    }

    fn settings(&mut self, frame: &Frame) -> Result<(), TransportError> {
        self.idle()?;
        if frame.flags & frame::ACK != 0 {
            return Ok(());
        }
        if !frame.payload.len().is_multiple_of(6) {
            return Err(protocol("settings of an odd length"));
        }
        for setting in frame.payload.chunks_exact(6) {
            // INITIAL_WINDOW_SIZE; we send the smallest frames that all must take, and no table.
            if setting[..2] == [0, 4] {
                let size =
                    i64::from(u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]));
                if size > i64::from(i32::MAX) {
                    return Err(protocol("a window beyond the limit"));
                }
                self.windows.stream += size - self.windows.initial;
                self.windows.initial = size;
            }
        }
        self.reply(frame::SETTINGS, &[])
    }

    fn pong(&mut self, frame: &Frame) -> Result<(), TransportError> {
        self.idle()?;
        if frame.payload.len() != 8 {
            return Err(protocol("a ping of an odd length"));
        }
        if frame.flags & frame::ACK != 0 { Ok(()) } else { self.reply(frame::PING, &frame.payload) }
    }

    /// Answers with the same kind of frame. Who ended the stream may be gone already, with an answer for
    /// us on its way.
    fn reply(&mut self, kind: u8, payload: &[u8]) -> Result<(), TransportError> {
        let mut out = Vec::new();
        frame::append(&mut out, kind, frame::ACK, 0, payload);
        match self.frames.send(&out) {
            Err(TransportError::Gone(_)) => Ok(()),
            sent => sent,
        }
    }

    /// A server that is stopping: it ends the calls that it took, and takes no others.
    fn goaway(&mut self, frame: &Frame) -> Result<(), TransportError> {
        let last = error_code(&frame.payload, 0)? & 0x7fff_ffff;
        match error_code(&frame.payload, 4)? {
            0 if last >= STREAM => self.idle(),
            0 => Err(TransportError::Gone("it is stopping".into())),
            code => Err(protocol(&format!("it ended the connection with error {code}"))),
        }
    }

    fn on_window_update(&mut self, frame: &Frame) -> Result<(), TransportError> {
        self.idle()?;
        let more = i64::from(error_code(&frame.payload, 0)? & 0x7fff_ffff);
        let window =
            if frame.stream == 0 { &mut self.windows.connection } else { &mut self.windows.stream };
        *window += more;
        if more == 0 || *window > i64::from(i32::MAX) {
            return Err(protocol("a window beyond the limit"));
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<(), TransportError> {
        self.idle += 1;
        if self.idle > MAX_IDLE_FRAMES { Err(protocol("nothing but idle frames")) } else { Ok(()) }
    }
}

/// A frame's payload without its padding (RFC 9113, 6.1).
fn unpadded(frame: &Frame) -> Result<&[u8], TransportError> {
    if frame.flags & frame::PADDED == 0 {
        return Ok(&frame.payload);
    }
    let (padding, rest) =
        frame.payload.split_first().ok_or_else(|| protocol("a frame that is too short"))?;
    let length = rest.len().checked_sub(usize::from(*padding));
    length.map(|length| &rest[..length]).ok_or_else(|| protocol("more padding than frame"))
}

/// Four bytes of a frame's payload.
fn error_code(payload: &[u8], at: usize) -> Result<u32, TransportError> {
    let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_be_bytes).ok_or_else(|| protocol("a frame that is too short"))
}

/// A stream that was reset. Refused and cancelled ones (RFC 9113, 7) are a server's that is stopping.
fn reset(code: u32) -> TransportError {
    match code {
        0 | 7 | 8 => TransportError::Gone("it dropped the call".into()),
        code => protocol(&format!("it reset the call with error {code}")),
    }
}

fn protocol(what: &str) -> TransportError {
    TransportError::Protocol(what.to_owned())
}

#[cfg(test)]
mod tests;
