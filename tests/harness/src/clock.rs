//! A clock that only the test moves: psid's boot clock and wall clock.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

use crate::preload::preload_library;
use crate::{Instance, Start};

/// The clock of every psid that [`Clock::on`] gave it to. It does not move between two steps, so a
/// slow machine changes no age. The monotonic clock continues, so a step is like a suspend for
/// psid.
pub struct Clock {
    file: File,
    path: PathBuf,
    /// The boot clock and the wall clock, in milliseconds.
    shows: Mutex<[i64; 2]>,
}

impl Clock {
    /// A clock that starts at the host's time.
    pub fn of(instance: &Instance) -> Self {
        let path = instance.run().join("clock");
        let shows = [ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_REALTIME].map(|clock| {
            let time = clock_gettime(clock).unwrap();
            time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000
        });
        fs::write(&path, in_bytes(shows)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        Self { file, path, shows: Mutex::new(shows) }
    }

    /// A psid with this clock.
    pub fn on(&self, start: Start) -> Start {
        let library = preload_library("tests/harness/src/clock.c");
        start.env("LD_PRELOAD", library).env("PSI_CLOCK", &self.path)
    }

    /// Moves it forward.
    pub fn advance(&self, span: Duration) {
        let mut shows = self.shows.lock();
        *shows = shows.map(|millis| millis + i64::try_from(span.as_millis()).unwrap());
        self.file.write_all_at(&in_bytes(*shows), 0).unwrap();
    }
}

fn in_bytes(shows: [i64; 2]) -> Vec<u8> {
    shows.map(i64::to_ne_bytes).concat()
}
