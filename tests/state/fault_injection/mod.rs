//! Fault injection: a failing call, an end of psid or a power cut at every change of the disk in
//! turn; afterwards the old or the new state loads completely.
//!
//! `shim.c` is preloaded into psid as it is built. An operation is rehearsed once to record its
//! changes of the disk; then each of them fails or is psid's last. From the same record, `power`
//! makes the disks that a power cut may leave. An operation is one line below, and each has its
//! table in `target/fault-table/`.

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
