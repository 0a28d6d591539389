//! The harness of the black-box tests: it starts the built programs, each with the test's own
//! files, a fake Infisical, software tokens, a software TPM and podman, and ends everything that it
//! started.
//!
//! The harness and the tests use none of psi's crates.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

pub mod ca;
mod clock;
mod config;
mod driver;
mod fake_infisical;
mod host;
mod ids;
mod instance;
mod knobs;
pub mod machine;
mod name_service;
mod order;
mod podman;
mod preload;
mod probe;
mod process;
mod programs;
mod psid;
pub mod python_psi;
mod sealed;
mod terminal;
mod token;
mod tpm;
mod user_host;
mod wait;

pub use clock::Clock;
pub use config::Config;
pub use driver::{Driver, Outcome, one_line, run};
pub use fake_infisical::{BROKEN_ANSWERS, CLIENT_SECRET, FakeInfisical, IDENTITY, PROJECT, seed};
pub use host::{Host, generate, generate_by_each, run_quadlet, workload};
pub use ids::{id, reference};
pub use instance::Instance;
pub use knobs::{fault, identity, rule, seed_with_two_identities};
pub use name_service::NameService;
pub use order::assert_in_order;
pub use podman::{IMAGE, Podman, lock_as_podman};
pub use preload::preload_library;
pub use probe::{Probe, bytes, hex};
pub use process::Process;
pub use programs::{copy_program, program, repository, target_directory};
pub use psid::{Psid, Start, directory_holds};
pub use sealed::{SealedFixture, reference_in};
pub use terminal::TerminalSession;
pub use token::{PIN, Token};
pub use tpm::Tpm;
pub use user_host::{DB, HostUser, UserHost, WEB};
pub use wait::{LIMIT, eventually, is_readable};

pub use nix::sys::signal::Signal;
