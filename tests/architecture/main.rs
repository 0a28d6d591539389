//! Checks of the architecture, read from the module trees of the crates with `syn`: which module
//! may import which, which module uses each external crate, and the size of files and functions.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, and is a program of its own"
)]

mod exceptions;
mod layers;
mod limits;
mod modules;
mod owners;
