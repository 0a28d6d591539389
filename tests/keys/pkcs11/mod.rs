//! Suites for every implementation of a trait, and faults of a PKCS#11 module.

mod hang;
mod key;
mod pin;
mod provider;
mod token;
