//! The clients: psi-driver itself, as podman runs it, 32 of them at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::dice::Dice;
use super::truth::Truth;
use psi_harness::{Driver, Outcome};

/// How many there are.
pub(super) const CLIENTS: u64 = 32;
/// Between two lookups of a client, at most: the machine has other work than starting processes.
const THINKS_MS: usize = 300;

/// Clients that look up until they are told to stop.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// They look up these, in any order; the truth judges each answer.
    pub(super) fn start(seed: u64, truth: &Arc<Truth>, lookups: &[Driver]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number| {
            let (stop, truth, lookups) = (Arc::clone(&stop), Arc::clone(truth), lookups.to_vec());
            let mut dice = Dice::new(seed.wrapping_add(number + 1));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let at = dice.below(lookups.len());
                    let asked = truth.ask(at);
                    truth.answered(&asked, &run(&lookups[at]));
                    std::thread::sleep(Duration::from_millis(dice.below(THINKS_MS) as u64));
                }
            })
        };
        let threads = (0..CLIENTS).map(start).collect();
        Self { stop, threads }
    }

    /// Waits for the last answer of each.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.threads.drain(..) {
            client.join().unwrap();
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // A client that is left behind would look up in an instance that is gone.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Without the threads that the harness's own runner takes for each call.
fn run(lookup: &Driver) -> Outcome {
    let output = lookup.command().stdin(std::process::Stdio::null()).output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
