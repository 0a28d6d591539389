//! `psictl setup`: podman and the quadlets follow the config, and nothing else changes.

pub(crate) mod writes;

mod drift;
mod mapping;
mod order;
mod provider;
mod prune;
mod quadlet;
mod reconcile;
mod shared_keys;
mod units;
