//! The layout of the sources.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends at the first surprise, and is a program of its own"
)]

mod house;
