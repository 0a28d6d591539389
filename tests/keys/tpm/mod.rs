//! The tpm backend, with the real systemd-creds and a software TPM.

mod binding;
mod helper;
mod init;
mod keys;
mod lockout;
mod owners;
mod unseal;

use psi_harness::{Driver, FakeInfisical, Instance, Start, Tpm, id};

/// An instance whose only key is to come from `tpm`.
fn instance_on(infisical: &FakeInfisical) -> Instance {
    let instance = Instance::of(infisical);
    instance.take_key();
    instance
}

/// `psictl cache init --backend tpm` on this TPM, with more arguments.
fn init(instance: &Instance, tpm: &Tpm, more: &[&str]) -> Driver {
    tpm.flush();
    let args = [&["cache", "init", "--backend", "tpm"], more].concat();
    let path = std::env::var_os("PATH").unwrap_or_default();
    instance.driver(&args).env("SYSTEMD_TPM2_DEVICE", tpm.device()).env("PATH", path)
}

/// A psid that has this TPM.
fn psid_on(instance: &Instance, tpm: &Tpm) -> Start {
    tpm.flush();
    instance.psid().env("SYSTEMD_TPM2_DEVICE", tpm.device())
}

/// An instance with a key, and a literal that is encrypted under it.
fn in_use(infisical: &FakeInfisical, tpm: &Tpm) -> Instance {
    let instance = instance_on(infisical);
    init(&instance, tpm, &[]).ok();
    let psid = psid_on(&instance, tpm).start();
    instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    psid.terminate();
    instance
}
