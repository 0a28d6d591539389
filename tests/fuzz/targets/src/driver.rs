//! psi-driver against something that is not psid, or answers wrongly.
//!
//! It runs in this process: `PSI_SOCKET` names its socket, and it writes to stdout and stderr.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use psi_common::{Exit, Paths, Scope};
use psi_mutation::frames;

use crate::{Body, choice};

/// The commands, one of which the first byte chooses; tabs separate their words. `lookup` and
/// `list` try again when the connection ends.
const COMMANDS: &str = include_str!("../../driver-commands");
/// The exit statuses of interface.md, except usage.
const EXITS: [Exit; 8] = [
    Exit::Ok,
    Exit::BadInput,
    Exit::NoSuchSecret,
    Exit::NoDaemon,
    Exit::Io,
    Exit::TryLater,
    Exit::Protocol,
    Exit::NotAllowed,
];
/// The server disconnects at once, so no deadline is reached.
const LIMIT: Duration = Duration::from_secs(5);

/// After the command, 1: frames after a valid beginning. Anything else: raw bytes.
pub(crate) fn open() -> Body {
    let socket = Paths::new(Scope::of_this_process()).socket;
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("PSI_SOCKET names no place for a socket");
    let answer = Arc::new(Mutex::new(Vec::new()));
    let given = Arc::clone(&answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut answer = given.lock();
            // A second connection gets an error that is not retried.
            let bytes = std::mem::replace(&mut *answer, vec![0xff; 64]);
            drop(answer);
            thread::spawn(move || hang_up_after(stream.unwrap(), &bytes));
        }
    });
    Box::new(move |input| {
        let (command, rest) = choice(input);
        *answer.lock() = match choice(rest) {
            (1, rest) => frames::answers(rest),
            _ => rest.to_vec(),
        };
        let nth = usize::from(command) % COMMANDS.lines().count();
        run(&COMMANDS.lines().nth(nth).unwrap().split('\t').collect::<Vec<_>>());
    })
}

fn hang_up_after(mut stream: UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Asserts that the command ends soon, with a status of the contract.
fn run(command: &[&str]) {
    let began = Instant::now();
    let args = std::iter::once("psi").chain(command.iter().copied()).map(Into::into);
    // For any other command, psi-driver would replace this process by psictl.
    let code = match command.first() {
        Some(&("lookup" | "list" | "health")) => psi_driver::run_driver(args),
        _ => psi_driver::run_ctl(args),
    };
    assert!(began.elapsed() < LIMIT, "{command:?} took {:?}", began.elapsed());
    let expected = EXITS.into_iter().any(|exit| ExitCode::from(exit) == code);
    assert!(expected, "{command:?} ends with {code:?}");
}
