//! psid under every fault, one after the other from a printed seed, while 32 clients look up
//! secrets all the time.
//!
//! `make chaos SEED=… MINUTES=…` runs each fault in turn and then at random. In `make test` it runs
//! some of them from one fixed seed, so that the result is reproducible. The report is
//! `target/chaos.md`. In reading order: the faults (`faults`), one step (`suite`, `apply`), the
//! permitted answers (`model`).

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]
#![expect(clippy::print_stdout, reason = "a suite of hours prints its seed and its progress")]

mod apply;
mod clients;
mod faults;
mod model;
mod network;
mod random;
mod report;
mod secrets;
mod suite;

use std::time::{Duration, Instant};

use faults::{Class, Fault, Way};
use random::Random;
use suite::Suite;

/// The number of steps in the short form, besides the partial faults and the refused logins, which
/// are all in it.
const FEW: usize = 8;
/// Turns of each client in a fixed step: longer than an entry is fresh.
const TURNS: u64 = 6;
/// The short form's seed.
const SEED: u64 = 14;

/// Runs the whole suite, in a thread of its own because it enters a network namespace for good.
#[test]
fn no_lookup_fails_under_any_fault() {
    std::thread::scope(|scope| {
        let suite = std::thread::Builder::new().name("chaos".into()).spawn_scoped(scope, suite);
        if let Err(panic) = suite.unwrap().join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn suite() {
    network::enter_one_of_our_own();
    let number = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let minutes = number("PSI_CHAOS_MINUTES").map(|text| text.parse::<f64>().unwrap());
    let any = || if minutes.is_some() { random::random_seed() } else { SEED };
    let seed = number("PSI_CHAOS_SEED").map_or_else(any, |text| text.parse().unwrap());
    let only = number("PSI_CHAOS_ONLY").unwrap_or_default();
    let all = || Fault::all().into_iter().filter(|fault| fault.name.contains(&only));
    println!("chaos: seed {seed}; again with `make chaos SEED={seed}`");

    let mut random = Random::new(seed);
    let mut suite = Suite::set_up(seed);
    match minutes {
        None => {
            let (partial, mut others): (Vec<_>, Vec<_>) = all().partition(is_always_there);
            random.shuffle(&mut others);
            others.truncate(FEW);
            let deck = [partial, others].concat();
            deck.into_iter().for_each(|fault| suite.step(&fault, TURNS, &mut random));
        }
        Some(minutes) => {
            let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
            let deck: Vec<_> = all().collect();
            deck.iter().for_each(|fault| suite.step(fault, TURNS, &mut random));
            suite.revoke_for_good(&mut random);
            while Instant::now() < end {
                let fault = random.pick(&deck);
                let turns = 2 + random.below(60) as u64;
                suite.step(fault, turns, &mut random);
            }
        }
    }
    suite.finish();
}

fn is_always_there(fault: &Fault) -> bool {
    matches!(fault.class, Class::Partial | Class::LoginRefused)
        || matches!(fault.way, Way::Wide(_) | Way::RouteLost(_))
}
