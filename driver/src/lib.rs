//! `psi-driver`: one podman call becomes one gRPC call over psid's socket; then the program exits.
//!
//! In reading order: `args` (what is asked), `verbs` (one verb, one call, one answer), `client` (the
//! deadline, the retry, the exit code), `wire` (gRPC on a socket), `admin` (what only people run), `podman`
//! (for `admin`).

mod admin;
mod args;
mod client;
mod failure;
mod podman;
mod stdio;
mod verbs;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

use psi_common::{Exit, Paths, Scope};

pub use args::command_line;

use args::Command;
use failure::CliError;

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
        Command::Delete { id: Some(id), force } => admin::delete::run(paths, id, *force),
        Command::List => verbs::list(paths),
        Command::Restore { id, all } => admin::restore::run(paths, id.as_deref(), *all),
        Command::Add(options) => admin::add::run(paths, options),
        Command::Get { name } => verbs::get(paths, name),
        Command::Health => verbs::health(paths),
        Command::Install(options) => admin::install::run(paths, options),
        Command::Setup(options) => admin::setup::run(paths, options),
        Command::Doctor(options) => admin::doctor::run(paths, options),
        Command::Gc(options) => admin::gc::run(paths, options),
        Command::Migrate(options) => admin::migrate::run(paths, options),
        Command::Import { command } => admin::import::run(paths, command),
        Command::Exec(options) => admin::values::exec::run(paths, options),
        Command::Render(options) => admin::values::render::run(paths, options),
        Command::Cache { command } => admin::cache::run(paths, command),
        Command::Hsm { command } => admin::hsm::run(paths, command),
        Command::Drill(options) => admin::drill::run(paths, options),
        Command::Metrics => admin::metrics::run(paths),
    }
}

/// A secret passes through this process: no core dump, no debugger. Best effort, for a kernel that
/// refuses must not keep a container from its secret.
fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
