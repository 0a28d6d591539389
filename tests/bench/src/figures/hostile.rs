//! Hits while other clients hold connections, do not read their answers, or send something other
//! than HTTP/2.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Bench;
use crate::Result;
use crate::fixture::{FakeInfisical, Instance, id};
use crate::frames::{PREFACE, SETTINGS, is_cut_off, lookup, preface_with_windows};
use crate::load::{self, Call, Connection};
use crate::report::{Row, Side, Target, Unit};
use crate::stats::Samples;

const SILENT: usize = 1_000;
/// Clients that request values of half a megabyte and do not read them.
const SLOW: usize = 50;
/// Clients that announce a frame of 16 MiB, and reconnect once they are cut off.
const OVERSIZED: usize = 50;
/// How long a client may be idle or useless.
const CUT_OFF: f64 = 60.0;

const OVERSIZED_FRAME: &[u8] = &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let fake = FakeInfisical::start(&bench.programs, 1, 1)?;
    let instance = Instance::of(&bench.programs, &fake, 0)?;
    let (_psid, _) = instance.start()?;
    load::run(async {
        let connection = Connection::open(&instance.socket()).await?;
        connection.call(&Call::store(&id(0), &[b'x'; 100])).await?;
        connection.call(&Call::store(&id(1), &[b'x'; 500_000])).await
    })?;
    let (mut quiet, mut besieged) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(16).max(3) {
        hits(&instance.socket(), 500, &mut quiet)?;
        let siege = Siege::begin(&instance.socket())?;
        hits(&instance.socket(), 500, &mut besieged)?;
        siege.end()?;
    }
    let (quiet, besieged) = (Samples::of(quiet), Samples::of(besieged));
    rows.push(Row {
        figure: "p99 of hits under 1,100 bad clients, to without",
        target: Target::AtMost(2.0, Unit::Times),
        measured: besieged.p99() / quiet.p99(),
        ours: Side::new("connect and hit, besieged", Unit::Micros, besieged),
        beside: Side::new("quiet", Unit::Micros, quiet),
    });
    rows.push(cut_off(&instance.socket())?);
    Ok(())
}

/// Hits as psi-drivers make them, each with its own connection; in µs.
pub(super) fn hits(socket: &Path, count: usize, into: &mut Vec<f64>) -> Result<()> {
    let call = Call::lookup(&id(0));
    load::run(async {
        for _ in 0..count {
            let start = Instant::now();
            Connection::open(socket).await?.call(&call).await?;
            into.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(())
    })
}

/// Hostile clients, until it is ended.
struct Siege {
    _silent: Vec<UnixStream>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Siege {
    fn begin(socket: &Path) -> Result<Self> {
        let silent: std::io::Result<_> = (0..SILENT).map(|_| UnixStream::connect(socket)).collect();
        let over = Arc::new(AtomicBool::new(false));
        let (for_slow, for_oversized) = (Arc::clone(&over), Arc::clone(&over));
        let slow = open_slow(socket)?;
        let path = socket.to_owned();
        let threads = vec![
            std::thread::spawn(move || read_slowly(slow, &for_slow)),
            std::thread::spawn(move || oversize(&path, &for_oversized)),
        ];
        // The start is not measured: 1,000 connections are accepted one after another.
        std::thread::sleep(Duration::from_millis(300));
        Ok(Self { _silent: silent?, over, threads })
    }

    fn end(self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a besieger crashed")?;
        }
        Ok(())
    }
}

/// Connections with as many requests for large values as psid answers at once.
fn open_slow(socket: &Path) -> Result<Vec<UnixStream>> {
    let mut request = preface_with_windows(1 << 20);
    for stream in (1..64).step_by(2) {
        lookup(&mut request, stream, &id(1));
    }
    let mut clients = Vec::new();
    for _ in 0..SLOW {
        let mut client = UnixStream::connect(socket)?;
        client.set_nonblocking(true)?;
        // Bytes that do not fit are not sent.
        let _ = client.write(&request)?;
        clients.push(client);
    }
    Ok(clients)
}

/// Reads a byte now and then.
fn read_slowly(mut clients: Vec<UnixStream>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for client in &mut clients {
            let _ = client.read(&mut [0]);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Replaces each client that is cut off, at most 200 a second.
fn oversize(socket: &Path, over: &AtomicBool) {
    let socket: PathBuf = socket.to_owned();
    let open = || {
        let mut client = UnixStream::connect(&socket).ok()?;
        client.write_all(PREFACE).and_then(|()| client.write_all(OVERSIZED_FRAME)).ok()?;
        client.set_nonblocking(true).ok()?;
        Some(client)
    };
    let mut clients: Vec<_> = (0..OVERSIZED).map(|_| open()).collect();
    for turn in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let client = &mut clients[turn % OVERSIZED];
        if client.as_ref().is_none_or(is_cut_off) {
            *client = open();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The time until all of them are cut off: silent clients, clients that stop in the middle, and
/// clients that do not read.
fn cut_off(socket: &Path) -> Result<Row> {
    let start = Instant::now();
    let mut silent: Vec<UnixStream> =
        (0..SILENT).map(|_| UnixStream::connect(socket)).collect::<std::io::Result<_>>()?;
    for client in silent.iter_mut().step_by(2) {
        client.write_all(&PREFACE[..12])?;
    }
    let mut greeted: Vec<UnixStream> = Vec::new();
    for _ in 0..SLOW {
        let mut client = UnixStream::connect(socket)?;
        client.write_all(PREFACE)?;
        client.write_all(SETTINGS)?;
        greeted.push(client);
    }
    let slow = open_slow(socket)?;
    let left = |clients: &mut Vec<UnixStream>| {
        for client in clients.iter() {
            let _ = client.set_nonblocking(true);
        }
        clients.retain(|client| !is_cut_off(client));
        clients.is_empty()
    };
    // Slow readers never read: writing shows whether they are cut off.
    let mut slow = slow;
    let mut times = Vec::new();
    let mut all = [false; 3];
    while start.elapsed().as_secs_f64() < 2.0 * CUT_OFF && !all.iter().all(|done| *done) {
        let now = [left(&mut silent), left(&mut greeted), is_broken(&mut slow)];
        for (before, now) in all.iter_mut().zip(now) {
            if now && !*before {
                times.push(start.elapsed().as_secs_f64());
            }
            *before = now;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    times.resize(3, f64::INFINITY);
    let quick = times[0];
    let last = times.into_iter().fold(0.0, f64::max);
    Ok(Row::median(
        "until all bad clients are cut off",
        Target::AtMost(CUT_OFF, Unit::Seconds),
        Side::new("the last kind of them", Unit::Seconds, Samples::one(last)),
        Side::new("the first kind of them", Unit::Seconds, Samples::one(quick)),
    ))
}

/// Whether none of these can be written to any more.
fn is_broken(clients: &mut Vec<UnixStream>) -> bool {
    clients.retain_mut(|client| match client.write(&[]) {
        Ok(_) => poll(&mut [PollFd::new(client.as_fd(), PollFlags::empty())], PollTimeout::ZERO)
            .is_ok_and(|hung_up| hung_up == 0),
        Err(_) => false,
    });
    clients.is_empty()
}
