//! A disk that fails, a psid that ends, a power cut: at every change of the disk in turn, and afterwards
//! the old or the new state loads whole.
//!
//! `shim.c` is loaded into psid as it is built. An operation is rehearsed once, which tells its changes
//! of the disk; then each of them fails, or is psid's last. From the same list, `power` makes the disks
//! that a power cut may leave. An operation is one line below, and each has its table in
//! `target/fault-table/`.

mod complete;
mod engine;
mod fixture;
mod observe;
mod operations;
mod power;
mod report;
mod shim;
mod trace;
mod tree;
