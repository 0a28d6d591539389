//! psi-driver against something that is not psid, or answers wrongly. The seeds are those of
//! `tests/fuzz`.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Instant;

use psi_mutation::{Mutator, files, frames, words};

use psi_harness::{Driver, Instance, LIMIT, Outcome, id, one_line, repository};

/// The exit statuses of the contract, except usage.
const CODES: [i32; 8] = [0, 65, 66, 69, 74, 75, 76, 77];
/// The seed of the mutations, which are the same in each run.
const NUMBER: u64 = 1;

/// Parses an input: the first byte chooses the command; a 1 after it means that the rest becomes
/// frames (as for the fuzz target `driver`).
fn read(input: &[u8]) -> (Vec<String>, Vec<u8>) {
    let commands = fs::read_to_string(repository().join("tests/fuzz/driver-commands")).unwrap();
    let (command, rest) = input.split_first().unwrap_or((&0, &[]));
    let nth = usize::from(*command) % commands.lines().count();
    let args = commands.lines().nth(nth).unwrap().split('\t').map(str::to_owned).collect();
    match rest {
        [1, rest @ ..] => (args, frames::answers(rest)),
        _ => (args, rest.to_vec()),
    }
}

fn mutator(number: u64) -> Mutator {
    let fuzz = repository().join("tests/fuzz");
    let dictionary = fs::read_to_string(fuzz.join("dictionaries/driver")).unwrap();
    Mutator::new(number, files(&fuzz.join("seeds/driver")).unwrap(), words(&dictionary))
}

/// Answers the first call with `answer`, and each further one with an error that is not retried.
fn answer(instance: &Instance, answer: Vec<u8>, hold: bool) {
    let _ = fs::remove_file(instance.socket());
    let listener = UnixListener::bind(instance.socket()).unwrap();
    // The thread ends with the test's process; the socket goes with the instance.
    thread::spawn(move || {
        let mut answer = Some(answer);
        for stream in listener.incoming() {
            give(stream.unwrap(), answer.take().unwrap_or_else(|| vec![0xff; 64]), hold);
        }
    });
}

fn give(mut stream: UnixStream, bytes: Vec<u8>, hold: bool) {
    thread::spawn(move || {
        let _ = stream.write_all(&bytes);
        if !hold {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let _ = stream.read_to_end(&mut Vec::new());
    });
}

/// Asserts that the program ends in time, with a status of the contract and at most one line.
fn assert_in_order(driver: &Driver, input: &[u8]) -> Outcome {
    let began = Instant::now();
    let outcome = driver.run();
    // Podman's patience is 10 s; the rest is for a busy machine.
    assert!(began.elapsed() < LIMIT, "{:?} for {}", began.elapsed(), input.escape_ascii());
    assert!(CODES.contains(&outcome.code), "{outcome:?} for {}", input.escape_ascii());
    if !outcome.stderr.is_empty() {
        let line = one_line(&outcome.stderr);
        assert!(!line.contains(char::is_control), "{line:?} for {}", input.escape_ascii());
    }
    outcome
}

#[test]
fn psi_driver_ends_with_a_code_and_one_line_for_any_answer() {
    let instance = Instance::empty();
    let mut mutator = mutator(NUMBER);
    let seeds = files(&repository().join("tests/fuzz/seeds/driver")).unwrap();
    let mutations = (0..200).map(|_| mutator.input());
    for input in seeds.into_iter().chain(mutations) {
        let (args, bytes) = read(&input);
        answer(&instance, bytes, false);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        assert_in_order(&instance.driver(&args).id(id(1)), &input);
    }
}

/// An answer that is not HTTP/2 has a message of its own, and nothing is written to stdout.
#[test]
fn random_bytes_are_69() {
    let instance = Instance::empty();
    let mut mutator = Mutator::new(NUMBER, vec![vec![0xa5; 64]], Vec::new());
    for verb in ["lookup", "list", "delete", "health"].into_iter().cycle().take(40) {
        let input = mutator.input();
        answer(&instance, input.clone(), false);
        let outcome = assert_in_order(&instance.driver(&[verb]).id(id(1)), &input);
        assert!([69, 76].contains(&outcome.code), "{outcome:?} for {}", input.escape_ascii());
        assert_eq!(outcome.stdout, b"");
    }
}

/// The request waits for a window that may never open.
#[test]
fn store_ends_for_any_answer() {
    let instance = Instance::empty();
    let mut mutator = mutator(NUMBER + 1);
    for _ in 0..40 {
        let (_, bytes) = read(&mutator.input());
        answer(&instance, bytes.clone(), false);
        let store = instance.driver(&["store"]).id(id(1)).stdin(vec![b'x'; 400_000]);
        assert_in_order(&store, &bytes);
    }
}

/// The server does not close the connection: the deadline ends the call.
#[test]
fn psi_driver_ends_when_the_connection_stalls() {
    let mut mutator = mutator(NUMBER + 2);
    let inputs: Vec<_> = (0..24).map(|_| mutator.input()).collect();
    thread::scope(|scope| {
        for input in &inputs {
            scope.spawn(move || {
                let instance = Instance::empty();
                answer(&instance, read(input).1, true);
                assert_in_order(&instance.driver(&["health"]), input);
            });
        }
    });
}
