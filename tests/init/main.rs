//! `psictl init` and `psictl seal` on a host of a test's own: a mount namespace with psi's user, paths and programs as
//! the package makes them, the real systemd-creds on a software TPM, the real podman, and a stand-in for systemd.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod by_flags;
mod dialog;
mod install;
mod interruption;
mod methods;
mod mistakes;
mod readme;
mod seal;
mod staged_host;
