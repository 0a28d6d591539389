//! The tpm backend, with the real systemd-creds and a software TPM.

mod binding;
mod helper;
mod init;
mod keys;
mod lockout;
mod unseal;

use psi_harness::{Driver, FakeInfisical, Start, Tpm, World};

/// A world whose only key is to come from `tpm`.
fn world_on(infisical: &FakeInfisical) -> World {
    let world = World::of(infisical);
    world.take_key();
    world
}

/// `psi-driver cache init --backend tpm` on this TPM, with more arguments.
fn init(world: &World, tpm: &Tpm, more: &[&str]) -> Driver {
    tpm.flush();
    let args = [&["cache", "init", "--backend", "tpm"], more].concat();
    let path = std::env::var_os("PATH").unwrap_or_default();
    world.driver(&args).env("SYSTEMD_TPM2_DEVICE", tpm.device()).env("PATH", path)
}

/// A psid that has this TPM.
fn psid_on(world: &World, tpm: &Tpm) -> Start {
    tpm.flush();
    world.psid().env("SYSTEMD_TPM2_DEVICE", tpm.device())
}
