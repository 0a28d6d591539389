//! Checks of the architecture, read from the module trees of the crates with `syn`: which module
//! may import which, which module uses each external crate, and the size of files and functions.

#![allow(clippy::unwrap_used, reason = "a panic is the failure of a test")]

mod exceptions;
mod layers;
mod limits;
mod modules;
mod owners;
mod rules;
