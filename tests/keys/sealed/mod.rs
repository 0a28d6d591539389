//! Secrets sealed to a token: store, lookup, status and preflight.

mod lookup;
mod preflight;
mod status;
mod store;
