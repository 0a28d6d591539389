//! `psid`: the daemon.

use std::process::ExitCode;

/// Every freed block is wiped: a secret also passes through buffers of the HTTP client, the JSON
/// parser and the gRPC server, which know nothing of secrets.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    psi_daemon::cli::run()
}
