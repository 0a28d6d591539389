//! Ciphers and envelopes. Pure: bytes in, bytes out.

pub(crate) mod aead;
pub(crate) mod envelope;
pub(crate) mod hybrid;
pub(crate) mod keyring;
pub(crate) mod recovery_key;
pub(crate) mod rsa;
