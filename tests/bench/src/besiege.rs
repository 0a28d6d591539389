//! `psi-bench besiege SOCKET KIND CONNECTIONS ID`: hostile connections of the user that runs it, until its stdin ends.
//! Each connection is a thread, and one that is cut off is replaced. The figures and the black-box tests use it.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::Result;
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame,
    header_block, is_cut_off, lookup, preface_with_windows,
};

/// What the connections do.
pub const KINDS: [(&str, Attack); 13] = [
    ("silent", silent),
    ("half a preface", half_a_preface),
    ("no call", no_call),
    ("endless headers", endless_headers),
    ("unfinished requests", unfinished_requests),
    ("a byte a second", a_byte_a_second),
    ("calls", calls),
    ("resets", resets),
    ("settings", settings),
    ("pings", pings),
    ("empty frames", empty_frames),
    ("unread answers", unread_answers),
    ("churn", churn),
];

/// Sends on a connection until it fails or the siege is over.
pub type Attack = fn(&mut Attacker) -> std::io::Result<()>;

const STORE: &str = "/psi.v1.SecretDriver/Store";
/// Frames in one write of a flood.
const IN_A_WRITE: u32 = 100;

/// One connection.
pub struct Attacker {
    stream: UnixStream,
    id: String,
    over: Arc<AtomicBool>,
}

pub fn run(socket: &Path, kind: &str, connections: &str, id: &str) -> Result<()> {
    let attack = KINDS.iter().find(|(name, _)| *name == kind).ok_or("no such kind")?.1;
    let (over, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..connections.parse()?)
        .map(|_: usize| {
            let (over, opened) = (Arc::clone(&over), Arc::clone(&opened));
            let (socket, id): (PathBuf, String) = (socket.into(), id.into());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(stream) = UnixStream::connect(&socket) {
                        opened.fetch_add(1, Ordering::Relaxed);
                        let (id, over) = (id.clone(), Arc::clone(&over));
                        let _ = attack(&mut Attacker { stream, id, over });
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        })
        .collect();
    eprintln!("the siege has begun");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| "a besieger crashed")?;
    }
    println!("{} connections", opened.load(Ordering::Relaxed));
    Ok(())
}

impl Attacker {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Writes all of it; what is received is not read.
    fn send(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        self.stream.set_write_timeout(Some(Duration::from_millis(100)))?;
        while !bytes.is_empty() && !self.is_over() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads and sends nothing until it is cut off.
    fn stay(&mut self) -> std::io::Result<()> {
        self.stream.set_nonblocking(true)?;
        while !self.is_over() && !is_cut_off(&self.stream) {
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Sends the same frames again and again, and discards what comes back.
    fn flood(&mut self, frames: &[u8]) -> std::io::Result<()> {
        while !self.is_over() {
            self.send(frames)?;
            self.discard()?;
        }
        Ok(())
    }

    /// Discards what has been received.
    fn discard(&mut self) -> std::io::Result<()> {
        self.stream.set_nonblocking(true)?;
        let is_cut_off = is_cut_off(&self.stream);
        self.stream.set_nonblocking(false)?;
        if is_cut_off { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

fn silent(attacker: &mut Attacker) -> std::io::Result<()> {
    attacker.stay()
}

fn half_a_preface(attacker: &mut Attacker) -> std::io::Result<()> {
    attacker.send(&PREFACE[..12])?;
    attacker.stay()
}

fn no_call(attacker: &mut Attacker) -> std::io::Result<()> {
    attacker.send(&[PREFACE, SETTINGS].concat())?;
    attacker.stay()
}

/// A header block whose last frame never comes.
fn endless_headers(attacker: &mut Attacker) -> std::io::Result<()> {
    let mut begin = [PREFACE, SETTINGS].concat();
    frame(&mut begin, HEADERS, 0, 1, &header_block(STORE));
    attacker.send(&begin)?;
    // A field of 1,000 bytes that is in no table.
    let field = [&[0x00, 1, b'x', 0x7f, 0xe9, 0x06][..], &[b'y'; 1_000]].concat();
    let mut more = Vec::new();
    frame(&mut more, CONTINUATION, 0, 1, &field);
    attacker.flood(&more)
}

/// Requests that announce half a megabyte and end after as much as the window permits.
fn unfinished_requests(attacker: &mut Attacker) -> std::io::Result<()> {
    let mut requests = [PREFACE, SETTINGS].concat();
    for stream in (1..64).step_by(2) {
        frame(&mut requests, HEADERS, END_HEADERS, stream, &header_block(STORE));
        let announced = [&[0][..], &500_000_u32.to_be_bytes()].concat();
        frame(&mut requests, DATA, 0, stream, &announced);
        if stream < 16 {
            frame(&mut requests, DATA, 0, stream, &[b'x'; 7_000]);
        }
    }
    attacker.send(&requests)?;
    attacker.stay()
}

fn a_byte_a_second(attacker: &mut Attacker) -> std::io::Result<()> {
    let mut request = [PREFACE, SETTINGS].concat();
    frame(&mut request, HEADERS, END_HEADERS, 1, &header_block(STORE));
    frame(&mut request, DATA, 0, 1, &[0, 0, 7, 0xa1, 0x20]);
    attacker.send(&request)?;
    let mut byte = Vec::new();
    frame(&mut byte, DATA, 0, 1, b"x");
    while !attacker.is_over() {
        attacker.send(&byte)?;
        attacker.discard()?;
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Calls as fast as psid reads them; those beyond its limits are refused.
fn calls(attacker: &mut Attacker) -> std::io::Result<()> {
    attacker.send(&[PREFACE, SETTINGS].concat())?;
    for stream in (1..).step_by(2) {
        let mut call = Vec::new();
        lookup(&mut call, stream, &attacker.id);
        attacker.send(&call)?;
        attacker.discard()?;
        if attacker.is_over() {
            break;
        }
    }
    Ok(())
}

/// Calls that are reset at once (CVE-2023-44487).
fn resets(attacker: &mut Attacker) -> std::io::Result<()> {
    attacker.send(&[PREFACE, SETTINGS].concat())?;
    let mut stream = 1;
    while !attacker.is_over() {
        let mut frames = Vec::new();
        for _ in 0..IN_A_WRITE {
            lookup(&mut frames, stream, &attacker.id);
            frame(&mut frames, RST_STREAM, 0, stream, &[0, 0, 0, 8]);
            stream += 2;
        }
        attacker.send(&frames)?;
        attacker.discard()?;
    }
    Ok(())
}

/// Settings that must be acknowledged each (CVE-2019-9515).
fn settings(attacker: &mut Attacker) -> std::io::Result<()> {
    attacker.send(PREFACE)?;
    attacker.flood(&SETTINGS.repeat(IN_A_WRITE as usize))
}

/// Pings that must be answered each (CVE-2019-9512).
fn pings(attacker: &mut Attacker) -> std::io::Result<()> {
    attacker.send(&[PREFACE, SETTINGS].concat())?;
    let mut ping = Vec::new();
    frame(&mut ping, PING, 0, 0, &[0; 8]);
    attacker.flood(&ping.repeat(IN_A_WRITE as usize))
}

/// Data without any (CVE-2019-9518).
fn empty_frames(attacker: &mut Attacker) -> std::io::Result<()> {
    let mut begin = [PREFACE, SETTINGS].concat();
    frame(&mut begin, HEADERS, END_HEADERS, 1, &header_block(STORE));
    attacker.send(&begin)?;
    let mut empty = Vec::new();
    frame(&mut empty, DATA, 0, 1, &[]);
    attacker.flood(&empty.repeat(IN_A_WRITE as usize))
}

/// As many large answers as psid sends, with windows for all of them, which nobody reads.
fn unread_answers(attacker: &mut Attacker) -> std::io::Result<()> {
    let mut calls = preface_with_windows(64 << 20);
    for stream in (1..64).step_by(2) {
        lookup(&mut calls, stream, &attacker.id);
    }
    attacker.send(&calls)?;
    while !attacker.is_over() {
        // Fails once the other end has closed it.
        let mut ping = Vec::new();
        frame(&mut ping, PING, 0, 0, &[0; 8]);
        attacker.send(&ping)?;
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// A call, and a new connection for the next one.
fn churn(attacker: &mut Attacker) -> std::io::Result<()> {
    let mut call = [PREFACE, SETTINGS].concat();
    lookup(&mut call, 1, &attacker.id);
    attacker.send(&call)?;
    attacker.stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    attacker.stream.read(&mut [0; 4096]).map(|_| ())
}
