//! HTTP/1.1 over a unix socket: one request a connection, and its whole answer (RFC 9112). `httparse` reads
//! what has a syntax of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The head of an answer is not longer.
const LONGEST_HEAD: usize = 64 << 10;
/// Nor the body: it describes all of podman's containers or secrets.
const LONGEST_BODY: usize = 256 << 20;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Asks, and reads the answer to its end, within `limit`.
pub(super) fn call(
    socket: &Path,
    method: &str,
    target: &str,
    body: &str,
    limit: Duration,
) -> io::Result<Answer> {
    let deadline = Instant::now() + limit;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(limit))?;
    // Any other type would make podman read the body as a form.
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: podman\r\nconnection: close\r\n\
         content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    loop {
        if let Some(answer) = parse(&answer)? {
            return Ok(answer);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut part = [0; 16 << 10];
        match stream.read(&mut part) {
            Ok(0) => return at_its_end(&answer),
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        if answer.len() > LONGEST_BODY {
            return Err(strange("an answer without an end"));
        }
    }
}

/// How an answer tells its length.
enum Length {
    Known(usize),
    Chunked,
    ToTheEnd,
}

/// The status, how long the body is, and where it begins.
fn head(bytes: &[u8]) -> io::Result<Option<(u16, Length, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head.parse(bytes).map_err(|error| strange(&error.to_string()))?;
    let httparse::Status::Complete(begin) = parsed else {
        let too_long = bytes.len() > LONGEST_HEAD;
        return if too_long { Err(strange("a head without an end")) } else { Ok(None) };
    };
    let value = |name: &str| {
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let length = match (value("transfer-encoding"), value("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Length::Chunked,
        (Some(_), _) => return Err(strange("a body in a coding that nobody asked for")),
        (None, Some(length)) => {
            let length = length.trim().parse().ok().filter(|length| *length <= LONGEST_BODY);
            Length::Known(length.ok_or_else(|| strange("a body of no length"))?)
        }
        (None, None) => Length::ToTheEnd,
    };
    let status = head.code.unwrap_or_default();
    let length = if [204, 304].contains(&status) { Length::Known(0) } else { length };
    Ok(Some((status, length, begin)))
}

/// The answer, when it is whole before the connection's end.
fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let Some((status, length, begin)) = head(bytes)? else { return Ok(None) };
    let body = &bytes[begin..];
    let body = match length {
        Length::Known(length) => body.get(..length).map(<[u8]>::to_vec),
        Length::Chunked => chunks(body)?,
        Length::ToTheEnd => None,
    };
    Ok(body.map(|body| Answer { status, body }))
}

/// The chunks put together, once the last one is there.
fn chunks(bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let (mut body, mut rest) = (Vec::new(), bytes);
    loop {
        let parsed = httparse::parse_chunk_size(rest).map_err(|_| strange("no chunk's length"))?;
        let httparse::Status::Complete((begin, length)) = parsed else { return Ok(None) };
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_BODY);
        let length = length.ok_or_else(|| strange("a chunk without an end"))?;
        if length == 0 {
            return Ok(Some(body));
        }
        let Some(chunk) = rest.get(begin..begin + length) else { return Ok(None) };
        body.extend_from_slice(chunk);
        match rest.get(begin + length..begin + length + 2) {
            Some(b"\r\n") => rest = &rest[begin + length + 2..],
            Some(_) => return Err(strange("a chunk that is longer than it says")),
            None => return Ok(None),
        }
    }
}

/// What the connection's end makes of what came before it.
fn at_its_end(bytes: &[u8]) -> io::Result<Answer> {
    match head(bytes)? {
        Some((status, Length::ToTheEnd, begin)) => {
            Ok(Answer { status, body: bytes[begin..].to_vec() })
        }
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn strange(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it speaks no HTTP: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";

    fn body(bytes: &str) -> Option<(u16, String)> {
        let answer = parse(bytes.as_bytes()).unwrap()?;
        Some((answer.status, String::from_utf8(answer.body).unwrap()))
    }

    #[test]
    fn an_answer_ends_where_it_says() {
        let known = "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(body(known), Some((404, "abc".into())));
        assert_eq!(body(CHUNKED), Some((200, "abcde".into())));
        assert_eq!(body("HTTP/1.1 204 No Content\r\n\r\n"), Some((204, String::new())));
        for whole in [known, &CHUNKED[..CHUNKED.len() - 2]] {
            for length in 0..whole.len() {
                assert_eq!(body(&whole[..length]), None, "{length}");
                assert!(at_its_end(&whole.as_bytes()[..length]).is_err(), "{length}");
            }
        }
        let open = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(parse(open).unwrap(), None);
        assert_eq!(at_its_end(open).unwrap(), Answer { status: 200, body: b"abc".to_vec() });
    }

    #[test]
    fn what_is_no_http_is_refused() {
        for text in [
            "PRI * HTTP/2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), flip in any::<u8>()) {
            let _ = parse(&bytes);
            let _ = at_its_end(&bytes);
            let mut bytes = CHUNKED.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let _ = parse(&bytes);
        }
    }
}
