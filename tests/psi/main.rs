//! psi as its users see it: the built programs, over real sockets, against a double of Infisical.
//!
//! `harness` starts what a test needs and ends it again; every other module is one topic. A defect
//! of the Python PSI has a test of its own, named by its number (`n5_…`), wherever it is a topic.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends at the first surprise, and is a program of its own"
)]

mod harness;

mod access;
mod bytes;
mod canary;
mod chaos;
mod cli;
mod contract;
mod doctor;
mod faults;
mod house;
mod hsm;
mod import;
mod legacy;
mod login;
mod lookup;
mod malformed;
mod migrate;
mod offline;
mod packaging;
mod persist;
mod podman;
mod sealed;
mod service;
mod setup;
mod store;
mod tpm;
mod values;
mod vectors;
