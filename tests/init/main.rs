//! `psictl init` and `psictl seal` on a host of a test's own: a mount namespace with psi's user, paths and programs as
//! the package makes them, the real systemd-creds on a software TPM, the real podman, and a stand-in for systemd.

mod by_flags;
mod dialog;
mod mistakes;
mod seal;
mod staged_host;
