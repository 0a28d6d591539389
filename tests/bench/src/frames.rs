//! HTTP/2 frames by hand: what no client library sends.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

/// The client's preface (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS without any.
pub const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS_FRAME: u8 = 4;
pub const PING: u8 = 6;
pub const CONTINUATION: u8 = 9;
/// The flags of the last frame of a stream, and of the last frame of a header block.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Appends a frame.
pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend(&length[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// The preface with windows of `bytes`, of each stream and of the connection.
pub fn preface_with_windows(bytes: u32) -> Vec<u8> {
    let mut out = Vec::from(PREFACE);
    let window = [&[0, 4][..], &bytes.to_be_bytes()].concat();
    frame(&mut out, SETTINGS_FRAME, 0, 0, &window);
    frame(&mut out, 8, 0, 0, &(bytes - 65_535).to_be_bytes());
    out
}

/// The header block of a call; none of its fields is in the dynamic table.
pub fn header_block(path: &str) -> Vec<u8> {
    // :method POST, :scheme http, :path, content-type, te.
    let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
    block.extend(path.as_bytes());
    block.extend([0x0f, 0x10, 16]);
    block.extend(b"application/grpc");
    block.extend([0x00, 2]);
    block.extend(b"te");
    block.push(8);
    block.extend(b"trailers");
    block
}

/// Appends a whole lookup of an id.
pub fn lookup(out: &mut Vec<u8>, stream: u32, id: &str) {
    let block = header_block("/psi.v1.SecretDriver/Lookup");
    frame(out, HEADERS, END_HEADERS, stream, &block);
    let mut message = vec![0, 0, 0, 0, 2 + id.len() as u8, 0x0a, id.len() as u8];
    message.extend(id.as_bytes());
    frame(out, DATA, END_STREAM, stream, &message);
}

/// Whether the other end has closed a connection that does not block; data before the end is discarded.
pub fn is_cut_off(mut client: &UnixStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}
