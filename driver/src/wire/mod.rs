//! One gRPC call on a connected socket, blocking: HTTP/2 (RFC 9113) as far as one call needs it, and gRPC's
//! own framing (grpc/doc/PROTOCOL-HTTP2.md).
//!
//! Podman holds its lock while psi-driver runs, once for each secret of a container: an async runtime and a full HTTP/2
//! stack cost more than the whole call.

mod frame;
mod hpack;
mod huffman;
mod response;

use std::os::unix::net::UnixStream;
use std::time::Instant;

use zeroize::Zeroizing;

use frame::{Connection, Frame};
use response::Response;

/// The connection's preface (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The id of the only stream.
const STREAM: u32 = 1;
/// The flow-control window of each side, until its peer's settings change it.
const INITIAL_WINDOW: i64 = 65_535;
/// The receive window: larger than any message of psid's, so that psid never waits for a window update.
const RECEIVE_WINDOW: u32 = 8 << 20;
/// The limit of a header block, in bytes.
const MAX_HEADERS: usize = 64 << 10;
/// The limit of frames that do not advance the call; more are an attack, or a defect.
const MAX_CONTROL_FRAMES: u32 = 10_000;

/// A call that ended without a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransportError {
    /// The peer closed the connection: a retry may succeed.
    ConnectionLost(String),
    /// The peer violated the protocol.
    Protocol(String),
    /// The deadline passed.
    DeadlineExceeded,
}

/// The status of a call: gRPC's code, 0 for success, and its message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GrpcStatus {
    pub(crate) code: u32,
    pub(crate) message: String,
}

/// Calls the method at `path` with `request`, and passes each message of the response to `on_message` as it arrives.
pub(crate) fn call(
    stream: UnixStream,
    deadline: Instant,
    path: &str,
    request: &[u8],
    on_message: &mut dyn FnMut(&[u8]) -> Result<(), TransportError>,
) -> Result<GrpcStatus, TransportError> {
    let mut call = Call {
        connection: Connection::new(stream, deadline),
        headers: hpack::Decoder::default(),
        windows: Windows {
            connection: INITIAL_WINDOW,
            stream: INITIAL_WINDOW,
            initial: INITIAL_WINDOW,
        },
        response: Response::default(),
        has_settings: false,
        control_frames: 0,
    };
    call.send(deadline, path, request)?;
    loop {
        while let Some(message) = call.response.next_message()? {
            on_message(&message)?;
        }
        if let Some(outcome) = call.response.outcome.take() {
            return outcome;
        }
        call.step()?;
    }
}

struct Call {
    connection: Connection,
    headers: hpack::Decoder,
    windows: Windows,
    response: Response,
    /// Whether the peer has sent its settings, which must be its first frame.
    has_settings: bool,
    control_frames: u32,
}

/// The send windows that remain, in bytes.
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
        // Most requests fit into one write and every window.
        let mut out = Zeroizing::new(Vec::with_capacity(256 + first));
        out.extend_from_slice(PREFACE);
        // ENABLE_PUSH (2) off; INITIAL_WINDOW_SIZE (4).
        let settings = [&[0, 2, 0, 0, 0, 0, 0, 4][..], &RECEIVE_WINDOW.to_be_bytes()].concat();
        frame::append(&mut out, frame::SETTINGS, 0, 0, &settings);
        frame::append(&mut out, frame::WINDOW_UPDATE, 0, 0, &RECEIVE_WINDOW.to_be_bytes());
        frame::append(&mut out, frame::HEADERS, frame::END_HEADERS, STREAM, &block);
        self.append_data(&mut out, &message[..first], first == message.len());
        self.connection.send(&out)?;
        let mut rest = &message[first..];
        while !rest.is_empty() {
            let room =
                usize::try_from(self.windows.connection.min(self.windows.stream)).unwrap_or(0);
            if room == 0 {
                self.step()?;
                // A response before the end of the request is an error of the server's.
                if self.response.outcome.is_some() {
                    return Ok(());
                }
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(room).min(frame::MAX_PAYLOAD));
            out.clear();
            self.append_data(&mut out, part, after.is_empty());
            self.connection.send(&out)?;
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

    /// Reads one frame and handles it.
    fn step(&mut self) -> Result<(), TransportError> {
        let frame = self.connection.next()?;
        if !self.has_settings && (frame.kind != frame::SETTINGS || frame.flags & frame::ACK != 0) {
            return Err(protocol("its first frame is not SETTINGS"));
        }
        self.has_settings = true;
        if frame.stream != 0 && frame.stream != STREAM {
            return Err(protocol("a frame of a stream that was not opened"));
        }
        let is_ours = frame.stream == STREAM;
        match (frame.kind, is_ours) {
            (frame::DATA, true) => self.response.data(&frame),
            (frame::HEADERS, true) => {
                let block = self.whole_block(&frame)?;
                let fields = self
                    .headers
                    .decode(&block)
                    .ok_or_else(|| protocol("headers that do not decode"))?;
                self.response.headers(&fields, frame.flags & frame::END_STREAM != 0)
            }
            (frame::RST_STREAM, true) => Err(stream_reset(u32_at(&frame.payload, 0)?)),
            (frame::SETTINGS, false) => self.on_settings(&frame),
            (frame::PING, false) => self.on_ping(&frame),
            (frame::GOAWAY, false) => self.on_goaway(&frame),
            (frame::WINDOW_UPDATE, _) => self.on_window_update(&frame),
            (frame::DATA | frame::HEADERS | frame::RST_STREAM, false)
            | (frame::SETTINGS | frame::PING | frame::GOAWAY, true)
            | (frame::PUSH_PROMISE | frame::CONTINUATION, _) => {
                Err(protocol("a frame of a type that is not allowed here"))
            }
            // PRIORITY, and unknown types, which are ignored (RFC 9113, 5.5).
            _ => self.count_control_frame(),
        }
    }

    /// A header block, with its CONTINUATION frames.
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
            let more = self.connection.next()?;
            if more.kind != frame::CONTINUATION || more.stream != STREAM {
                return Err(protocol("headers that are not continued"));
            }
            self.count_control_frame()?;
            block.extend_from_slice(&more.payload);
            if block.len() > MAX_HEADERS {
                return Err(protocol("too many headers"));
            }
            ended = more.flags & frame::END_HEADERS != 0;
        }
        Ok(block)
    }

    fn on_settings(&mut self, frame: &Frame) -> Result<(), TransportError> {
        self.count_control_frame()?;
        if frame.flags & frame::ACK != 0 {
            return Ok(());
        }
        if !frame.payload.len().is_multiple_of(6) {
            return Err(protocol("settings of an odd length"));
        }
        for setting in frame.payload.chunks_exact(6) {
            // INITIAL_WINDOW_SIZE. The other settings need no reaction: requests use the smallest maximum frame size and no
            // dynamic table.
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

    fn on_ping(&mut self, frame: &Frame) -> Result<(), TransportError> {
        self.count_control_frame()?;
        if frame.payload.len() != 8 {
            return Err(protocol("a ping of an odd length"));
        }
        if frame.flags & frame::ACK != 0 { Ok(()) } else { self.reply(frame::PING, &frame.payload) }
    }

    /// Replies with an ACK of the same type. A lost connection is no error: a peer that closed it may have sent the
    /// response before.
    fn reply(&mut self, kind: u8, payload: &[u8]) -> Result<(), TransportError> {
        let mut out = Vec::new();
        frame::append(&mut out, kind, frame::ACK, 0, payload);
        match self.connection.send(&out) {
            Err(TransportError::ConnectionLost(_)) => Ok(()),
            sent => sent,
        }
    }

    /// A server that shuts down: it completes the calls that it accepted.
    fn on_goaway(&mut self, frame: &Frame) -> Result<(), TransportError> {
        let last = u32_at(&frame.payload, 0)? & 0x7fff_ffff;
        match u32_at(&frame.payload, 4)? {
            0 if last >= STREAM => self.count_control_frame(),
            0 => Err(TransportError::ConnectionLost("it is shutting down".into())),
            code => Err(protocol(&format!("it ended the connection with error {code}"))),
        }
    }

    fn on_window_update(&mut self, frame: &Frame) -> Result<(), TransportError> {
        self.count_control_frame()?;
        let more = i64::from(u32_at(&frame.payload, 0)? & 0x7fff_ffff);
        let window =
            if frame.stream == 0 { &mut self.windows.connection } else { &mut self.windows.stream };
        *window += more;
        if more == 0 || *window > i64::from(i32::MAX) {
            return Err(protocol("a window beyond the limit"));
        }
        Ok(())
    }

    fn count_control_frame(&mut self) -> Result<(), TransportError> {
        self.control_frames += 1;
        if self.control_frames > MAX_CONTROL_FRAMES {
            Err(protocol("too many frames without a response"))
        } else {
            Ok(())
        }
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

/// The big-endian number at an offset of a frame's payload.
fn u32_at(payload: &[u8], at: usize) -> Result<u32, TransportError> {
    let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_be_bytes).ok_or_else(|| protocol("a frame that is too short"))
}

/// The error of a stream that was reset. NO_ERROR, REFUSED_STREAM and CANCEL (RFC 9113, 7) come from a server that
/// shuts down.
fn stream_reset(code: u32) -> TransportError {
    match code {
        0 | 7 | 8 => TransportError::ConnectionLost("it dropped the call".into()),
        code => protocol(&format!("it reset the call with error {code}")),
    }
}

fn protocol(what: &str) -> TransportError {
    TransportError::Protocol(what.to_owned())
}

#[cfg(test)]
mod tests;
