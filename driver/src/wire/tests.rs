//! The client against a server that sends given bytes. The black-box tests cover tonic's server.

use super::*;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::time::Duration;

/// A call whose server sends these bytes before it reads, and keeps the connection until the client ends.
fn call_answered_by(bytes: &[u8]) -> Result<(GrpcStatus, Vec<Vec<u8>>), TransportError> {
    let bytes = bytes.to_vec();
    conversation(b"request", Duration::from_secs(10), move |mut server| {
        let _ = server.write_all(&bytes);
        let _ = server.read_to_end(&mut Vec::new());
    })
}

fn conversation(
    request: &[u8],
    patience: Duration,
    serve: impl FnOnce(UnixStream) + Send + 'static,
) -> Result<(GrpcStatus, Vec<Vec<u8>>), TransportError> {
    let (client, server) = UnixStream::pair().unwrap();
    let served = std::thread::spawn(move || serve(server));
    let mut messages = Vec::new();
    let ended = call(client, Instant::now() + patience, "/a.B/C", request, &mut |message| {
        messages.push(message.to_vec());
        Ok(())
    });
    served.join().unwrap();
    Ok((ended?, messages))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::append(&mut out, kind, flags, stream, payload);
    out
}

fn settings() -> Vec<u8> {
    frame(frame::SETTINGS, 0, 0, &[])
}

/// `:status 200`, and content-type as a literal with an indexed name.
const BEGIN: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// grpc-status: 0
const OK: &[u8] = b"\x00\x0bgrpc-status\x010";

fn begin() -> Vec<u8> {
    frame(frame::HEADERS, frame::END_HEADERS, 1, BEGIN)
}

fn end() -> Vec<u8> {
    frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 1, OK)
}

fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn data(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(frame::MAX_PAYLOAD).flat_map(|part| frame(frame::DATA, 0, 1, part)).collect()
}

fn whole(value: &[u8]) -> Vec<u8> {
    [settings(), begin(), data(&message(value)), end()].concat()
}

#[track_caller]
fn gives(bytes: &[u8], messages: &[&[u8]]) {
    let (status, found) = call_answered_by(bytes).unwrap();
    assert_eq!(status, GrpcStatus { code: 0, message: String::new() });
    assert!(found.iter().map(Vec::as_slice).eq(messages.iter().copied()));
}

#[track_caller]
fn is_protocol_error(bytes: &[u8], message: &str) {
    match call_answered_by(bytes) {
        Err(TransportError::Protocol(why)) => assert!(why.contains(message), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_connection_lost(bytes: &[u8]) {
    let answer = call_answered_by(bytes);
    assert!(matches!(answer, Err(TransportError::ConnectionLost(_))), "{answer:?}");
}

#[test]
fn values_of_every_size_arrive_complete() {
    for size in [0, 1, 16_379, 16_380, 65_530, 70_000, 511_999, 4 << 20] {
        let value: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        gives(&whole(&value), &[&value]);
    }
}

#[test]
fn messages_arrive_in_order_whatever_the_frame_size() {
    let body = [message(b"one"), message(b""), message(b"three")].concat();
    for size in 1..body.len() {
        let parts = body.chunks(size).flat_map(|part| frame(frame::DATA, 0, 1, part)).collect();
        gives(&[settings(), begin(), parts, end()].concat(), &[b"one", b"", b"three"]);
    }
    gives(&[settings(), begin(), end()].concat(), &[]);
}

#[test]
fn padding_and_priority_are_ignored() {
    let padded = |payload: &[u8]| [&[3], payload, &[0; 3]].concat();
    let flags = frame::END_HEADERS | frame::PADDED | frame::PRIORITY;
    let headers = frame(frame::HEADERS, flags, 1, &padded(&[&[0; 5], BEGIN].concat()));
    let data = frame(frame::DATA, frame::PADDED, 1, &padded(&message(b"value")));
    gives(&[settings(), headers, data, end()].concat(), &[b"value"]);
    let too_much = frame(frame::DATA, frame::PADDED, 1, &[9, 0, 0]);
    is_protocol_error(&[settings(), begin(), too_much].concat(), "more padding than frame");
}

#[test]
fn only_continuation_frames_follow_incomplete_headers() {
    let first = frame(frame::HEADERS, 0, 1, &BEGIN[..1]);
    let more = frame(frame::CONTINUATION, 0, 1, &BEGIN[1..4]);
    let last = frame(frame::CONTINUATION, frame::END_HEADERS, 1, &BEGIN[4..]);
    let rest = [data(&message(b"v")), end()].concat();
    gives(&[settings(), first.clone(), more.clone(), last, rest].concat(), &[b"v"]);
    let ping = frame(frame::PING, 0, 0, &[0; 8]);
    is_protocol_error(
        &[settings(), first.clone(), ping].concat(),
        "headers that are not continued",
    );
    let endless = frame(frame::CONTINUATION, 0, 1, &[0; 16_000]).repeat(5);
    is_protocol_error(&[settings(), first, endless].concat(), "too many headers");
    is_protocol_error(&[settings(), more].concat(), "not allowed here");
}

#[test]
fn trailers_alone_are_a_response() {
    let trailers = b"\x88\x0f\x10\x10application/grpc\x00\x0bgrpc-status\x015\x00\x0cgrpc-message\x10no%20such%0Aone%";
    let flags = frame::END_HEADERS | frame::END_STREAM;
    let bytes = [settings(), frame(frame::HEADERS, flags, 1, trailers)].concat();
    let (status, messages) = call_answered_by(&bytes).unwrap();
    assert_eq!(status, GrpcStatus { code: 5, message: "no such\none%".into() });
    assert!(messages.is_empty());
}

#[test]
fn settings_and_pings_are_acknowledged() {
    let asked = [
        frame(frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
        frame(frame::PING, 0, 0, b"12345678"),
        frame(frame::PING, frame::ACK, 0, b"other   "),
        frame(frame::SETTINGS, frame::ACK, 0, &[]),
        // An unknown type, and PRIORITY.
        frame(0x2a, 0xff, 0, b"?"),
        frame(2, 0, 1, &[0; 5]),
    ];
    let bytes = [&asked.concat()[..], &whole(b"v")].concat();
    let (status, _) = conversation(b"", Duration::from_secs(10), move |mut server| {
        server.write_all(&bytes).unwrap();
        let mut received = Vec::new();
        let _ = server.read_to_end(&mut received);
        for answer in [
            frame(frame::SETTINGS, frame::ACK, 0, &[]),
            frame(frame::PING, frame::ACK, 0, b"12345678"),
        ] {
            assert!(received.windows(answer.len()).any(|part| part == answer));
        }
    })
    .unwrap();
    assert_eq!(status.code, 0);
}

/// A request beyond the server's window waits for window updates.
#[test]
fn large_request_respects_the_windows() {
    let request: Vec<u8> = (0..511_999).map(|at| u8::try_from(at % 253).unwrap()).collect();
    let expected = message(&request);
    let (status, _) = conversation(&request, Duration::from_secs(20), move |mut server| {
        // A stream's window of 70,000, and the connection's of 65,535.
        let size = 70_000_u32.to_be_bytes();
        server.write_all(&frame(frame::SETTINGS, 0, 0, &[&[0, 4], &size[..]].concat())).unwrap();
        let mut preface = vec![0; PREFACE.len()];
        server.read_exact(&mut preface).unwrap();
        assert_eq!(preface, PREFACE);
        let (mut body, mut connection, mut stream) = (Vec::new(), 65_535, 70_000);
        while body.len() < expected.len() {
            let mut head = [0; 9];
            server.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            server.read_exact(&mut payload).unwrap();
            if head[3] != frame::DATA {
                continue;
            }
            (connection, stream) = (connection - i64::from(length), stream - i64::from(length));
            assert!(connection >= 0 && stream >= 0, "beyond the window");
            body.extend(payload);
            if connection.min(stream) == 0 {
                for (id, window) in [(0, &mut connection), (1, &mut stream)] {
                    let more = 50_001_u32;
                    *window += i64::from(more);
                    let update = frame(frame::WINDOW_UPDATE, 0, id, &more.to_be_bytes());
                    server.write_all(&update).unwrap();
                }
            }
        }
        assert!(body == expected);
        server.write_all(&[begin(), data(&message(b"")), end()].concat()).unwrap();
        let _ = server.read_to_end(&mut Vec::new());
    })
    .unwrap();
    assert_eq!(status.code, 0);
}

/// The server refuses the request before its end.
#[test]
fn response_before_the_end_of_the_request_is_returned() {
    let flags = frame::END_HEADERS | frame::END_STREAM;
    let refusal = b"\x88\x0f\x10\x10application/grpc\x00\x0bgrpc-status\x018";
    let bytes = [settings(), frame(frame::HEADERS, flags, 1, refusal)].concat();
    let (status, _) = conversation(&[1; 400_000], Duration::from_secs(10), move |mut server| {
        server.write_all(&bytes).unwrap();
        let _ = server.read_to_end(&mut Vec::new());
    })
    .unwrap();
    assert_eq!(status.code, 8);
}

/// The response arrives while the request waits for a window: 800,000 empty messages.
#[test]
fn many_small_messages_are_parsed_in_time() {
    let messages = frame(frame::DATA, 0, 1, &[0; 16_000]).repeat(250);
    let no_window = frame(frame::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let bytes = [no_window, begin(), messages, end()].concat();
    let answer = conversation(&[1; 400_000], Duration::from_secs(30), move |mut server| {
        server.write_all(&bytes).unwrap();
        let _ = server.read_to_end(&mut Vec::new());
    });
    assert_eq!(answer.unwrap().1.len(), 800_000);
}

#[test]
fn shutdown_is_a_lost_connection_and_an_error_is_not() {
    let goaway = |last: u32, code: u32| {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        frame(frame::GOAWAY, 0, 0, &payload)
    };
    is_connection_lost(&[settings(), goaway(0, 0)].concat());
    gives(&[settings(), goaway(1, 0), whole(b"v")].concat(), &[b"v"]);
    gives(&[settings(), goaway(0x7fff_ffff, 0), whole(b"v")].concat(), &[b"v"]);
    is_protocol_error(&[settings(), goaway(0, 1)].concat(), "error 1");
    let reset = |code: u32| frame(frame::RST_STREAM, 0, 1, &code.to_be_bytes());
    is_connection_lost(&[settings(), reset(7)].concat());
    is_connection_lost(&[settings(), reset(8)].concat());
    is_protocol_error(&[settings(), reset(1)].concat(), "error 1");
}

#[test]
fn early_end_is_a_lost_connection() {
    let bytes = whole(b"value");
    for length in 0..bytes.len() {
        let part = bytes[..length].to_vec();
        let answer = conversation(b"", Duration::from_secs(10), move |mut server| {
            server.write_all(&part).unwrap();
            server.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = server.read_to_end(&mut Vec::new());
        });
        assert!(matches!(answer, Err(TransportError::ConnectionLost(_))), "{length}: {answer:?}");
    }
}

#[test]
fn silent_server_ends_at_the_deadline() {
    let start = Instant::now();
    let answer = conversation(b"", Duration::from_millis(50), |mut server| {
        server.write_all(&settings()).unwrap();
        let _ = server.read_to_end(&mut Vec::new());
    });
    assert_eq!(answer.unwrap_err(), TransportError::DeadlineExceeded);
    assert!(start.elapsed() >= Duration::from_millis(50));
}

/// Each frame arrives within the timeout of one read.
#[test]
fn slow_server_does_not_extend_the_deadline() {
    let answer = conversation(b"", Duration::from_millis(100), |mut server| {
        server.write_all(&settings()).unwrap();
        while server.write_all(&frame(frame::PING, 0, 0, &[0; 8])).is_ok() {}
    });
    let is_end =
        matches!(&answer, Err(TransportError::DeadlineExceeded | TransportError::Protocol(_)));
    assert!(is_end, "{answer:?}");
}

#[test]
fn malformed_responses_are_protocol_errors() {
    let after = |bytes: Vec<u8>| [settings(), begin(), bytes].concat();
    is_protocol_error(b"HTTP/1.1 400 Bad Request\r\n\r\n", "beyond the limit of HTTP/2");
    is_protocol_error(&[0xff; 50], "beyond the limit of HTTP/2");
    is_protocol_error(&begin(), "is not SETTINGS");
    is_protocol_error(&frame(frame::SETTINGS, 0, 0, &[0; 5]), "odd length");
    is_protocol_error(&frame(frame::SETTINGS, 0, 0, &[0, 4, 0xff, 0, 0, 0]), "beyond the limit");
    is_protocol_error(&after(frame(frame::PING, 0, 0, &[0; 7])), "odd length");
    is_protocol_error(&after(frame(frame::DATA, 0, 3, b"x")), "was not opened");
    is_protocol_error(&after(frame(frame::DATA, 0, 0, b"x")), "not allowed here");
    is_protocol_error(&after(frame(frame::PUSH_PROMISE, 0, 1, &[0; 4])), "not allowed here");
    is_protocol_error(&after(frame(frame::WINDOW_UPDATE, 0, 0, &[0; 4])), "beyond the limit");
    is_protocol_error(&after(frame(frame::WINDOW_UPDATE, 0, 1, &[0xff; 4])), "beyond the limit");
    is_protocol_error(&after(frame(frame::WINDOW_UPDATE, 0, 0, &[0; 3])), "too short");
    is_protocol_error(&after(frame(frame::RST_STREAM, 0, 1, &[])), "too short");
    is_protocol_error(&after(frame(frame::GOAWAY, 0, 0, &[0; 7])), "too short");
    is_protocol_error(&after(frame(frame::HEADERS, 4, 1, &[0xff])), "do not decode");
    is_protocol_error(&after(frame(frame::DATA, 1, 1, &message(b"x"))), "without a grpc-status");
    is_protocol_error(&after(data(&[1, 0, 0, 0, 0])), "compressed");
    is_protocol_error(&after(data(&[0, 0xff, 0, 0, 0])), "beyond the limit");
    is_protocol_error(&after([data(&[0, 0, 0, 0, 9, 1]), end()].concat()), "cut off");
    is_protocol_error(&after([data(&[0, 0]), end()].concat()), "cut off");
    is_protocol_error(&[settings(), data(b"x")].concat(), "data before headers");
    is_protocol_error(&[settings(), end()].concat(), "without a status");
    is_protocol_error(
        &[settings(), frame(frame::HEADERS, 5, 1, b"\x8d")].concat(),
        "HTTP status 404",
    );
    is_protocol_error(&after(frame(frame::HEADERS, 4, 1, OK)), "before the end");
    let idle = frame(frame::PING, frame::ACK, 0, &[0; 8]).repeat(20_000);
    is_protocol_error(&[settings(), idle].concat(), "without a response");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_response_makes_the_client_panic_or_hang(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        flip in any::<u8>(),
    ) {
        let ended = |bytes: Vec<u8>| conversation(b"", Duration::from_secs(5), move |mut server| {
            let _ = server.write_all(&bytes);
            let _ = server.shutdown(std::net::Shutdown::Write);
            let _ = server.read_to_end(&mut Vec::new());
        });
        prop_assert_ne!(ended(bytes.clone()), Err(TransportError::DeadlineExceeded));
        prop_assert_ne!(ended([settings(), bytes].concat()), Err(TransportError::DeadlineExceeded));
        let mut good = whole(b"value");
        let at = at.index(good.len());
        good[at] ^= flip;
        prop_assert_ne!(ended(good), Err(TransportError::DeadlineExceeded));
    }
}
