//! The clients: 32 psi-drivers at any time, run as podman does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::model::Model;
use super::random::Random;
use psi_harness::{Driver, Outcome};

/// The number of clients.
pub(super) const CLIENTS: u64 = 32;
/// The longest pause between two lookups of a client: the machine cannot only start processes.
const THINKS_MS: usize = 300;

/// Clients that look up secrets until they are stopped.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts clients that look up these in any order; the model checks each answer.
    pub(super) fn start(seed: u64, model: &Arc<Model>, lookups: &[Driver]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |number| {
            let (stop, model, lookups) = (Arc::clone(&stop), Arc::clone(model), lookups.to_vec());
            let mut random = Random::new(seed.wrapping_add(number + 1));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let at = random.below(lookups.len());
                    let asked = model.ask(at);
                    model.answered(&asked, &run(&lookups[at]));
                    std::thread::sleep(Duration::from_millis(random.below(THINKS_MS) as u64));
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
        // A remaining client would look up in a removed instance.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Without the harness's runner, which needs threads for each call.
fn run(lookup: &Driver) -> Outcome {
    let output = lookup.command().stdin(std::process::Stdio::null()).output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
