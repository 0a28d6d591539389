//! `psi-driver`: one podman call becomes one gRPC call over psid's socket; then the program exits.
//!
//! In reading order: `args` (what is asked), `verbs` (one verb, one call, one answer), `client` (the
//! deadline, the retry, the exit code), `wire` (gRPC on a socket), `ctl` (the admin commands).

mod args;
mod client;
mod ctl;
mod error;
mod stdio;
mod verbs;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

use psi_common::{Exit, Paths, Scope};

pub use args::command_line;

use args::Command;
use error::CliError;

/// Runs one command; a failure is one line on stderr and a code of [`Exit`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let paths = Paths::new(Scope::of_this_process());
    harden();
    let command = match args::parse(args) {
        Ok(command) => command,
        Err(answer) => return answer,
    };
    match execute(&command, &paths) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            stdio::complain(&command.title(), &failure);
            failure.exit().into()
        }
    }
}

fn execute(command: &Command, paths: &Paths) -> Result<(), CliError> {
    match command {
        Command::Lookup => verbs::lookup(paths),
        Command::Store(kind) => verbs::store(paths, kind),
        Command::Delete { id: None, .. } => verbs::delete(paths),
        Command::Delete { id: Some(id), force } => ctl::delete::run(paths, id, *force),
        Command::List => verbs::list(paths),
        Command::Restore { id, all } => ctl::restore::run(paths, id.as_deref(), *all),
        Command::Add(options) => ctl::add::run(paths, options),
        Command::Get { name } => verbs::get(paths, name),
        Command::Health => verbs::health(paths),
        Command::Install(options) => ctl::install::run(paths, options),
        Command::Setup(options) => ctl::setup::run(paths, options),
        Command::Doctor(options) => ctl::doctor::run(paths, options),
        Command::Gc(options) => ctl::gc::run(paths, options),
        Command::Migrate(options) => ctl::migrate::run(paths, options),
        Command::Import { command } => ctl::import::run(paths, command),
        Command::Exec(options) => ctl::values::exec::run(paths, options),
        Command::Render(options) => ctl::values::render::run(paths, options),
        Command::Cache { command } => ctl::cache::run(paths, command),
        Command::Hsm { command } => ctl::hsm::run(paths, command),
        Command::Drill(options) => ctl::drill::run(paths, options),
        Command::Metrics => ctl::metrics::run(paths),
    }
}

/// A secret passes through this process: no core dump, no debugger. Best effort, for a kernel that
/// refuses must not keep a container from its secret.
fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
