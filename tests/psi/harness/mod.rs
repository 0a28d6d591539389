//! What every test stands on: a world of its own on disk, and guards that end what they started.

mod config;
mod double;
mod driver;
mod ids;
mod knobs;
mod probe;
mod process;
mod programs;
mod psid;
mod token;
mod tpm;
mod wait;
mod world;

pub(crate) use config::Config;
pub(crate) use double::{BROKEN_ANSWERS, CLIENT_SECRET, Double, IDENTITY, PROJECT, seed};
pub(crate) use driver::{Driver, Outcome, one_line, run};
pub(crate) use ids::{id, reference};
pub(crate) use knobs::{fault, identity, rule, seed_with_two_identities};
pub(crate) use probe::{Probe, bytes, hex};
pub(crate) use process::Process;
pub(crate) use programs::{copy_program, program, repository, target_folder};
pub(crate) use psid::{Psid, Start, folder_holds};
pub(crate) use token::{PIN, Token};
pub(crate) use tpm::Tpm;
pub(crate) use wait::{LIMIT, eventually};
pub(crate) use world::World;
