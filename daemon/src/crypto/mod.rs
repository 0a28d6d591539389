//! Ciphers and envelopes. Pure: bytes in, bytes out.

pub mod aead;
pub mod envelope;
pub mod hybrid;
pub mod recovery_key;
pub mod rsa;
