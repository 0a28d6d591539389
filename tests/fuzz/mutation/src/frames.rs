//! Makes HTTP/2 frames (RFC 9113, 4.1) of any bytes, with right lengths: with a wrong length in the
//! first frame, a parser would test nothing else.

/// The first bytes of a client (3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A client's whole connection.
pub fn connection(input: &[u8]) -> Vec<u8> {
    [PREFACE, &SETTINGS, &frames(input)].concat()
}

/// A server's whole connection.
pub fn answers(input: &[u8]) -> Vec<u8> {
    [&SETTINGS, &frames(input)[..]].concat()
}

/// Records of type, flags, stream and length, a byte each, and up to that many bytes of payload.
fn frames(mut input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [kind, flags, stream, length, rest @ ..] = input {
        let (payload, after) = rest.split_at(usize::from(*length).min(rest.len()));
        let length = u8::try_from(payload.len()).unwrap_or(*length);
        bytes.extend_from_slice(&[0, 0, length, *kind, *flags, 0, 0, 0, *stream]);
        bytes.extend_from_slice(payload);
        input = after;
    }
    bytes
}

#[test]
fn frame_length_matches_its_payload() {
    assert_eq!(frames(&[1, 4, 3, 2, 9, 9]), [0, 0, 2, 1, 4, 0, 0, 0, 3, 9, 9]);
    assert_eq!(frames(&[0, 0, 1, 9, 7]), [0, 0, 1, 0, 0, 0, 0, 0, 1, 7]);
    assert!(frames(&[6, 0, 0]).is_empty());
}
