//! Where a secret must never be: each is a canary, a text that is nowhere else in the world, and
//! everything that psi says, writes or shows is searched for it.
//!
//! Not searched are the two places where a secret belongs: what a lookup prints, and the folder of
//! credentials, which stands for the ramfs that systemd keeps them in.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends at the first surprise, and is a program of its own"
)]

mod echo;
mod sought;

mod dumps;
mod hsm;
mod memory;
mod processes;
mod proofs;
mod words;
