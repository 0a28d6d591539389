//! Persistence: a large cache, one miss in it, and many misses.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::start::until_ready;
use super::{Bench, meanwhile};
use crate::fixture::{FakeInfisical, Instance, reference};
use crate::load::{self, Call, Connection};
use crate::report::{Row, Side, Target, Unit};
use crate::stats::{Samples, alternate};
use crate::{Failure, Result};

/// psid gathers changes for this time before it writes.
const GATHER: f64 = 50.0;
/// Within this time psid returns free memory.
const TIDIED: Duration = Duration::from_secs(62);
const MIB: f64 = 1_048_576.0;

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let directories = bench.rounds(100);
    let entries = directories * 1_000;
    // One directory more than there are workloads: its secrets are fetched one by one.
    let fake = FakeInfisical::start(&bench.programs, directories + 1, 1_000)?;
    let instance = Instance::of(&bench.programs, &fake, directories)?;
    let empty = Instance::of(&bench.programs, &fake, 0)?;
    let (psid, _) = instance.start()?;
    psid.refresh()?;
    psid.process.terminate()?;
    fake.forget()?;

    rows.push(load_all(bench, &instance, &empty)?);
    // It takes a minute, and all entries: with few of them, psid's base dominates.
    if !bench.quick {
        rows.extend(in_ram(&instance, &empty, entries)?);
    }
    let unlisted = format!("/f{directories}");
    rows.extend(one_miss(bench, &instance, &unlisted)?);
    drop(instance);
    rows.push(meanwhile::listings(bench)?);
    rows.extend(many_misses(bench)?);
    Ok(())
}

fn load_all(bench: &Bench, full: &Instance, empty: &Instance) -> Result<Row> {
    let mut with_all = || until_ready(full);
    let mut with_none = || until_ready(empty);
    let [with_all, with_none] = alternate(bench.rounds(16), [&mut with_all, &mut with_none])?;
    let load = with_all.median() - with_none.median();
    Ok(Row {
        figure: "load of 100,000 entries",
        target: Target::AtMost(250.0, Unit::Millis),
        measured: load,
        ours: Side::new("start to READY", Unit::Millis, with_all),
        beside: Side::new("with none", Unit::Millis, with_none),
    })
}

/// After a start, and a minute after a refresh: until then the allocator may keep free memory.
fn in_ram(full: &Instance, empty: &Instance, entries: usize) -> Result<[Row; 2]> {
    let (with_all, _) = full.start()?;
    let (with_none, _) = empty.start()?;
    let taken = || Ok::<_, Failure>(with_all.process.resident()? - with_none.process.resident()?);
    let loaded = taken()?;
    full.driver(&["cache", "refresh"])?;
    std::thread::sleep(TIDIED);
    let refreshed = taken()?;
    // Names and values: a name is its directory and its key.
    let bytes = (entries * ("/f00".len() + 64 + 100)) as f64 / MIB;
    let row = |figure, taken: f64| Row {
        figure,
        target: Target::AtMost(3.0, Unit::Times),
        measured: taken / bytes,
        ours: Side::new("RSS beyond an empty psid's", Unit::MiB, Samples::one(taken)),
        beside: Side::new("names and values", Unit::MiB, Samples::one(bytes)),
    };
    Ok([
        row("100,000 entries in RAM, to their bytes", loaded),
        row("100,000 entries a minute after a refresh, to their bytes", refreshed),
    ])
}

/// From the answer of a fetched lookup to its durability, and the latency of hits meanwhile.
fn one_miss(bench: &Bench, instance: &Instance, unlisted: &str) -> Result<Vec<Row>> {
    let (_psid, _) = instance.start()?;
    let writes = Writes::of(&instance.state())?;
    let size = instance.cache_size()? as usize;
    let beside = instance.directory().join("beside");
    fs::create_dir(&beside)?;
    let bytes: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
    let (mut misses, mut number) = (Vec::new(), 0);
    let mut one = || {
        // A separate miss: right after a write, psid waits longer.
        std::thread::sleep(Duration::from_millis(600));
        let call = Call::lookup_by_reference(&reference(unlisted, &FakeInfisical::key(number)));
        number += 1;
        // A fetched value is cached before it is answered.
        let start = Instant::now();
        load::run(async { Connection::open(&instance.socket()).await?.call(&call).await })?;
        let answered = Instant::now();
        misses.push((answered - start).as_secs_f64() * 1e3);
        writes.wait("cache.enc")?;
        Ok(answered.elapsed().as_secs_f64() * 1e3 - GATHER)
    };
    let mut plain = || write_durably(&beside.join("cache.enc"), &bytes);
    let [ours, plain] = alternate(bench.rounds(24), [&mut one, &mut plain])?;
    let misses = Samples::of(misses);
    let figure = Row::median(
        "one miss among 100,000 entries, persisted",
        Target::AtMost(60.0, Unit::Millis),
        Side::new("answer to durable, less the 50 ms of gathering", Unit::Millis, ours),
        Side::new(
            format!(
                "as many bytes written as durably (a miss is answered in {:.1} ms)",
                misses.median()
            ),
            Unit::Millis,
            plain,
        ),
    );
    Ok(vec![figure, meanwhile::misses(bench, instance, unlisted)?])
}

/// Cold misses at full rate, and the writes for them.
fn many_misses(bench: &Bench) -> Result<[Row; 2]> {
    let few = misses(bench, bench.rounds(2))?;
    let many = misses(bench, bench.rounds(10))?;
    let count = |what: &str, number| Side::new(what, Unit::Count, Samples::one(number));
    let bytes = |taken: &Taken| taken.written / taken.misses;
    Ok([
        Row {
            figure: "writes of the cache for 10,000 cold misses",
            target: Target::AtMost(many.seconds * 1e3 / GATHER + 2.0, Unit::Count),
            measured: many.writes,
            ours: count("writes", many.writes),
            beside: count(&format!("misses in {:.1} s", many.seconds), many.misses),
        },
        Row {
            figure: "bytes written for a miss, 10,000 to 2,000",
            // Five times as many entries: quadratic growth would be 5.
            target: Target::AtMost(3.0, Unit::Times),
            measured: bytes(&many) / bytes(&few),
            ours: Side::new(
                format!("of {:.0}", many.misses),
                Unit::Bytes,
                Samples::one(bytes(&many)),
            ),
            beside: Side::new(
                format!("of {:.0}", few.misses),
                Unit::Bytes,
                Samples::one(bytes(&few)),
            ),
        },
    ])
}

struct Taken {
    misses: f64,
    writes: f64,
    written: f64,
    seconds: f64,
}

fn misses(bench: &Bench, directories: usize) -> Result<Taken> {
    let fake = FakeInfisical::start(&bench.programs, directories, 1_000)?;
    let instance = Instance::of(&bench.programs, &fake, 0)?;
    let (psid, _) = instance.start()?;
    let calls: Rc<[Call]> = (0..directories * 1_000)
        .map(|number| {
            reference(&format!("/f{}", number / 1_000), &FakeInfisical::key(number % 1_000))
        })
        .map(|reference| Call::lookup_by_reference(&reference))
        .collect();
    let before = psid.process.written()?;
    let start = Instant::now();
    load::run(async { load::all(&Connection::open(&instance.socket()).await?, &calls, 16).await })?;
    let seconds = start.elapsed().as_secs_f64();
    while !instance.cache().exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // There was no cache before.
    let writes = psid.settle()? as f64;
    let written = psid.process.written()? - before;
    Ok(Taken { misses: calls.len() as f64, writes, written, seconds })
}

/// Writes bytes as psid does: temporary file, fsync, rename, fsync of the directory; in ms.
fn write_durably(path: &Path, bytes: &[u8]) -> Result<f64> {
    let start = Instant::now();
    let temporary: PathBuf = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().ok_or("no directory")?)?.sync_all()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Files that are renamed into a directory.
struct Writes(Inotify);

impl Writes {
    fn of(directory: &Path) -> Result<Self> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC)?;
        watch.add_watch(directory, AddWatchFlags::IN_MOVED_TO)?;
        Ok(Self(watch))
    }

    /// Waits until a file of this name is renamed into place.
    fn wait(&self, name: &str) -> Result<()> {
        loop {
            let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut watched, PollTimeout::try_from(Duration::from_secs(20))?)? == 0 {
                return Err(format!("{name} is never written").into());
            }
            let is_it = |found: &std::ffi::OsStr| found == name;
            let events = self.0.read_events()?;
            if events.iter().any(|event| event.name.as_deref().is_some_and(is_it)) {
                return Ok(());
            }
        }
    }
}
