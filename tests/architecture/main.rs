//! The architecture as tests, read from the module trees of the crates with `syn`: which module may import
//! which, where each outside world is touched, and how large a file or a function may be.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, and is a program of its own"
)]

mod exceptions;
mod layers;
mod limits;
mod modules;
mod owners;
