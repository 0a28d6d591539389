//! The library of two programs. Podman runs `psi-driver`: it makes one gRPC call over psid's socket and exits. Admins
//! run `psictl`.
//!
//! A lookup, in reading order: `args` (the verb), `verbs` (one verb, one call, one answer), `client` (the deadline,
//! the retry, the exit status), `wire` (gRPC on a socket). `ctl` is psictl; nothing of psi-driver depends on it.

mod args;
mod client;
mod ctl;
mod error;
mod psictl;
mod stdio;
#[cfg(feature = "testing")]
pub mod testing;
mod verbs;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

use psi_common::{Exit, Paths, Scope};

pub use ctl::args::{ctl_command_line, driver_command_line};

use args::Verb;
use error::CliError;

/// Runs psi-driver; a failure is one line on stderr and a status of [`Exit`].
pub fn run_driver(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    const PROGRAM: &str = "psi-driver";
    let args: Vec<OsString> = args.into_iter().collect();
    let paths = Paths::new(Scope::of_this_process());
    let failure = match Verb::parse(&args) {
        Some(verb) => {
            harden();
            match verbs::run(&paths, &verb) {
                Ok(()) => return Exit::Ok.into(),
                Err(failure) => {
                    // The name may be podman's: psictl asks podman. `exec` returns only if psictl is missing.
                    if verb.may_be_podman_name() && failure.exit() == Exit::NoSuchSecret {
                        let _ = psictl::exec(&args);
                    }
                    (verb.title(), failure)
                }
            }
        }
        None if args::is_version(&args) => {
            let version = concat!("psi-driver ", env!("CARGO_PKG_VERSION"), "\n");
            match stdio::write_text(version) {
                Ok(()) => return Exit::Ok.into(),
                Err(failure) => ("--version".into(), failure),
            }
        }
        None => (args::first_word(&args), psictl::exec(&args)),
    };
    fail(PROGRAM, &failure)
}

/// Runs psictl; a failure is one line on stderr and a status of [`Exit`].
pub fn run_ctl(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    harden();
    let args: Vec<OsString> = args.into_iter().collect();
    let paths = Paths::new(Scope::of_this_process());
    if ctl::complete::run(&paths, &args) {
        return Exit::Ok.into();
    }
    let command = match ctl::args::parse(&args) {
        Ok(command) => command,
        Err(status) => return status,
    };
    match ctl::run(&paths, &command) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => fail(ctl::PROGRAM, &(command.title(), failure)),
    }
}

fn fail(program: &str, (title, failure): &(String, CliError)) -> ExitCode {
    stdio::print_error(program, title, failure);
    failure.exit().into()
}

/// Disables core dumps and debuggers, because a secret passes through this process. Errors are ignored: a container needs
/// its secret all the same.
fn harden() {
    use nix::sys::prctl::set_dumpable;
    use nix::sys::resource::{Resource, setrlimit};
    let _ = set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}
