//! What the programs say: exit codes, words and streams, as an operator or podman meets them.

mod frames;
mod ids;
mod install;
mod listeners;
mod psid;
mod streams;
mod usage;
