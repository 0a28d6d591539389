//! The response on the stream: headers, messages, and the status in the trailers
//! (grpc/doc/PROTOCOL-HTTP2.md, "Responses").

use zeroize::Zeroizing;

use super::frame::{self, Frame};
use super::{GrpcStatus, TransportError, hpack, protocol, unpadded};

/// The limit of a message, in bytes.
const MAX_MESSAGE: usize = 5 << 20;

/// The response so far.
#[derive(Default)]
pub(super) struct Response {
    has_begun: bool,
    /// The bytes received; those from `consumed` on are not processed yet.
    body: Zeroizing<Vec<u8>>,
    consumed: usize,
    pub(super) outcome: Option<Result<GrpcStatus, TransportError>>,
}

impl Response {
    pub(super) fn headers(
        &mut self,
        fields: &[hpack::Field],
        is_last: bool,
    ) -> Result<(), TransportError> {
        let value = |name: &str| {
            fields
                .iter()
                .find(|field| field.name == name.as_bytes())
                .map(|field| field.value.as_slice())
        };
        if !self.has_begun {
            let status = value(":status").ok_or_else(|| protocol("a response without a status"))?;
            if status.first() == Some(&b'1') && status.len() == 3 && !is_last {
                return Ok(());
            }
            let is_grpc =
                value("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"));
            if status != b"200" || !is_grpc {
                let status = status.escape_ascii();
                return Err(protocol(&format!("HTTP status {status}, and no gRPC response")));
            }
            self.has_begun = true;
        }
        if !is_last {
            return if value("grpc-status").is_none() {
                Ok(())
            } else {
                Err(protocol("a grpc-status before the end"))
            };
        }
        let code =
            value("grpc-status").and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        let code = code.ok_or_else(|| protocol("a response without a grpc-status"))?;
        let message = percent_decoded(value("grpc-message").unwrap_or_default());
        self.end(Ok(GrpcStatus { code, message }));
        Ok(())
    }

    pub(super) fn data(&mut self, frame: &Frame) -> Result<(), TransportError> {
        if !self.has_begun {
            return Err(protocol("data before headers"));
        }
        let data = unpadded(frame)?;
        if self.consumed > 0 {
            self.body = Zeroizing::new(self.body[self.consumed..].to_vec());
            self.consumed = 0;
        }
        if self.body.len() + data.len() > MAX_MESSAGE {
            return Err(protocol("a message beyond the limit"));
        }
        if self.body.is_empty() {
            // Reserve the whole message: growing would leave copies of a secret behind.
            let announced = data.get(1..5).map_or(0, |length| {
                u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize
            });
            self.body.reserve_exact(announced.min(MAX_MESSAGE) + 5);
        }
        self.body.extend_from_slice(data);
        if frame.flags & frame::END_STREAM != 0 {
            self.end(Err(protocol("a response without a grpc-status")));
        }
        Ok(())
    }

    fn end(&mut self, outcome: Result<GrpcStatus, TransportError>) {
        self.outcome = Some(outcome);
    }

    /// The next complete message: a compression flag, four bytes of length, and the message.
    pub(super) fn next_message(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, TransportError> {
        let pending = &self.body[self.consumed..];
        let Some((head, rest)) = pending.split_first_chunk::<5>() else {
            return self.complete(pending.is_empty());
        };
        let [flag, length @ ..] = head;
        if *flag != 0 {
            return Err(protocol("a compressed message, which was not requested"));
        }
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_MESSAGE {
            return Err(protocol("a message beyond the limit"));
        }
        let Some(message) = rest.get(..length) else { return self.complete(false) };
        let message = Zeroizing::new(message.to_vec());
        // Do not move the rest: for many small messages, that would take longer than any deadline.
        self.consumed += 5 + length;
        Ok(Some(message))
    }

    fn complete(&self, is_whole: bool) -> Result<Option<Zeroizing<Vec<u8>>>, TransportError> {
        match &self.outcome {
            Some(Ok(GrpcStatus { code: 0, .. })) if !is_whole => {
                Err(protocol("a message that is cut off"))
            }
            _ => Ok(None),
        }
    }
}

/// Decodes a `grpc-message`, which has bytes other than printable ASCII as `%XX`.
fn percent_decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let hex = |at: usize| char::from(*tail.get(at)?).to_digit(16);
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high << 4 | low).unwrap_or(b'?'));
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
