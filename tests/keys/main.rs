//! The keys of the cache: sealed to a TPM or kept by a PKCS#11 token, and secrets sealed to a token.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod hsm;
mod pkcs11;
mod sealed;
mod tpm;
