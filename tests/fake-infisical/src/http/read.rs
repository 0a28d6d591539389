//! Reads requests from a connection, one after the other.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::request::Request;

/// Far above Fastify's 1 MiB, so that a request that is too large is read completely and answered.
const LARGEST_READ: usize = 64 << 20;
/// A body above this is answered 500, so the log need not keep it.
pub const LARGEST_BODY: usize = 1 << 20;
const LARGEST_HEAD: usize = 64 << 10;

#[derive(Debug)]
pub enum ReadError {
    /// The peer has disconnected, possibly in the middle
    Gone,
    /// Not HTTP that Fastify accepts
    Malformed,
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Keeps the bytes after one request for the next.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// The next request, or `None` when the client closed between two.
    pub async fn next<W>(&mut self, wire: &mut W) -> Result<Option<Request>, ReadError>
    where
        W: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut request, framing, head_len) = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
            if self.buffer.len() > LARGEST_HEAD {
                return Err(ReadError::Malformed);
            }
            if wire.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ReadError::Gone) };
            }
        };
        self.buffer.drain(..head_len);
        if request.header("expect") == Some("100-continue") {
            wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body = loop {
            if let Some((body, used)) = framing.take(&self.buffer)? {
                self.buffer.drain(..used);
                break body;
            }
            if self.buffer.len() > LARGEST_READ {
                return Err(ReadError::Malformed);
            }
            if wire.read_buf(&mut self.buffer).await? == 0 {
                return Err(ReadError::Gone);
            }
        };
        request.body_bytes = body.len();
        if body.len() <= LARGEST_BODY {
            request.body = body;
        }
        Ok(Some(request))
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

impl Framing {
    /// The body and its encoded length, once the buffer has all of it.
    fn take(&self, buffer: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ReadError> {
        match *self {
            Self::Length(length) => Ok(buffer.get(..length).map(|body| (body.to_vec(), length))),
            Self::Chunked => take_chunks(buffer),
        }
    }
}

/// Trailers are not supported: no client of Infisical's sends them.
fn take_chunks(buffer: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ReadError> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (line, size) = match httparse::parse_chunk_size(&buffer[at..]) {
            Ok(httparse::Status::Complete((line, size))) => (line, size),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ReadError::Malformed),
        };
        let size = usize::try_from(size).map_err(|_| ReadError::Malformed)?;
        let start = at + line;
        let end = start.checked_add(size).ok_or(ReadError::Malformed)?;
        let Some(chunk) = buffer.get(start..end) else {
            return Ok(None);
        };
        let Some(crlf) = buffer.get(end..end + 2) else {
            return Ok(None);
        };
        if crlf != b"\r\n" {
            return Err(ReadError::Malformed);
        }
        body.extend_from_slice(chunk);
        at = end + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn parse_head(buffer: &[u8]) -> Result<Option<(Request, Framing, usize)>, ReadError> {
    let mut slots = [httparse::EMPTY_HEADER; 96];
    let mut parsed = httparse::Request::new(&mut slots);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ReadError::Malformed),
    };
    let target = parsed.path.unwrap_or("/").to_owned();
    let path = target.split('?').next().unwrap_or("/").to_owned();
    let mut request = Request {
        method: parsed.method.unwrap_or("GET").to_owned(),
        target,
        path,
        ..Request::default()
    };
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value).into_owned();
        request
            .headers
            .entry(header.name.to_ascii_lowercase())
            .and_modify(|present| *present = format!("{present}, {value}"))
            .or_insert(value);
    }
    let connection = request.header("connection").unwrap_or_default();
    request.wants_close = connection.eq_ignore_ascii_case("close")
        || (parsed.version == Some(0) && !connection.eq_ignore_ascii_case("keep-alive"));
    let framing = framing(&request)?;
    Ok(Some((request, framing, length)))
}

fn framing(request: &Request) -> Result<Framing, ReadError> {
    if let Some(encoding) = request.header("transfer-encoding") {
        return if encoding.eq_ignore_ascii_case("chunked") {
            Ok(Framing::Chunked)
        } else {
            Err(ReadError::Malformed)
        };
    }
    match request.header("content-length") {
        None => Ok(Framing::Length(0)),
        Some(length) => match length.parse() {
            Ok(length) if length <= LARGEST_READ => Ok(Framing::Length(length)),
            _ => Err(ReadError::Malformed),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(mut bytes: impl AsyncRead + AsyncWrite + Unpin) -> Vec<Request> {
        let mut reader = Reader::default();
        let mut requests = Vec::new();
        while let Ok(Some(request)) = reader.next(&mut bytes).await {
            requests.push(request);
        }
        requests
    }

    #[tokio::test]
    async fn parser_reads_pipelined_requests_and_chunked_bodies() {
        let (mut client, server) = tokio::io::duplex(4096);
        client
            .write_all(
                b"POST /a HTTP/1.1\r\ncontent-length: 3\r\nX-Y: 1\r\nx-y: 2\r\n\r\nabc\
                  POST /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n\
                  GET /c?d=e HTTP/1.0\r\n\r\n",
            )
            .await
            .unwrap();
        drop(client);

        let requests = read_all(server).await;
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[0].body, b"abc");
        assert_eq!(requests[0].header("x-y"), Some("1, 2"));
        assert_eq!(requests[1].body, b"hi!");
        assert_eq!((requests[2].path.as_str(), requests[2].wants_close), ("/c", true));
    }

    #[test]
    fn parser_rejects_malformed_heads_and_waits_for_incomplete_ones() {
        assert!(matches!(parse_head(b"\x16\x03\x01\x02"), Err(ReadError::Malformed)));
        assert!(matches!(parse_head(b"GET / HT"), Ok(None)));
        let huge = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", u64::MAX);
        assert!(matches!(parse_head(huge.as_bytes()), Err(ReadError::Malformed)));
    }
}
