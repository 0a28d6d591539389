//! The short run of every target: its seeds, every file of `tests/vectors`, and mutations of them
//! for about a second. A number determines the inputs: `PSI_FUZZ_SEED=7` makes others.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

use parking_lot::Mutex;
use std::cell::Cell;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use psi_fuzz::{TARGETS, Target};
use psi_mutation::Mutator;

thread_local! {
    /// Whether this thread has panicked: a server's task may do so without an error for its caller.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}
/// The messages of panics in threads of no test.
static ELSEWHERE: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn watch_panics() {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICKED.set(true);
        if std::thread::current().name().is_none_or(|name| name.starts_with("tokio")) {
            ELSEWHERE.lock().push(info.to_string());
        }
        default_hook(info);
    }));
}

fn short(name: &str) {
    watch_panics();
    let target = Target::named(name).unwrap();
    let number = std::env::var("PSI_FUZZ_SEED").map_or(1, |number| number.parse().unwrap());
    let (seeds, vectors, mut body) = (target.seeds(), psi_fuzz::vectors(), (target.open)());
    // As often from a seed as from a vector, of which there are more.
    let half = seeds.iter().cycle().take(seeds.len().max(vectors.len()));
    let mut mutator = Mutator::new(number, half.chain(&vectors).cloned().collect(), target.words());
    let began = Instant::now();
    let mutations = (0..target.short).map(|_| mutator.input());
    let all = seeds.iter().chain(&vectors).cloned().chain(mutations);
    for (nth, input) in all.enumerate() {
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&input)));
        let elsewhere = std::mem::take(&mut *ELSEWHERE.lock());
        if outcome.is_err() || PANICKED.take() || !elsewhere.is_empty() {
            let kept =
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{number}-{nth}"));
            std::fs::write(&kept, &input).unwrap();
            panic!(
                "{name}: input {nth} of PSI_FUZZ_SEED={number} fails, see above {elsewhere:?}; it is \
                 kept as {}: mend the defect, and put the input into tests/fuzz/seeds/{name}",
                kept.display()
            );
        }
    }
    let line = format!(
        "fuzz {name}: {} executions, {} of seeds and vectors and {} of mutations (PSI_FUZZ_SEED={number}), in {:.1} s\n",
        seeds.len() + vectors.len() + target.short as usize,
        seeds.len() + vectors.len(),
        target.short,
        began.elapsed().as_secs_f64()
    );
    // Directly to stderr: the test runner hides the output of passing tests.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

#[test]
fn answers() {
    short("answers");
}

#[test]
fn config() {
    short("config");
}

#[test]
fn env_file() {
    short("env-file");
}

#[test]
fn envelope() {
    short("envelope");
}

#[test]
fn grpc() {
    short("grpc");
}

#[test]
fn header() {
    short("header");
}

#[test]
fn id() {
    short("id");
}

#[test]
fn legacy() {
    short("legacy");
}

#[test]
fn mapping() {
    short("mapping");
}

#[test]
fn recovery() {
    short("recovery");
}

#[test]
fn registration() {
    short("registration");
}

#[test]
fn template() {
    short("template");
}

/// Every target has seeds, words and a test here.
#[test]
fn every_fuzz_target_has_a_test() {
    let this = include_str!("short.rs");
    let mut names = Vec::new();
    for target in &TARGETS {
        let runs = this.contains(&format!("short(\"{}\")", target.name));
        assert_eq!(runs, target.short > 0, "{}", target.name);
        assert!(!target.words().is_empty(), "{}", target.name);
        names.push(target.name);
    }
    let directories = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../seeds")).unwrap();
    let mut directories: Vec<_> =
        directories.map(|directory| directory.unwrap().file_name()).collect();
    directories.sort();
    assert_eq!(directories, names);
}
