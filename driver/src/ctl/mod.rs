//! What only people run. Nothing here is on podman's path.

pub(crate) mod add;
pub(crate) mod cache;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod files;
pub(crate) mod gc;
pub(crate) mod hsm;
pub(crate) mod import;
pub(crate) mod install;
mod json;
mod keys;
pub(crate) mod metrics;
pub(crate) mod migrate;
pub(crate) mod names;
mod plaintext;
mod podman;
mod progress;
mod psid;
pub(crate) mod restore;
pub(crate) mod setup;
mod status;
pub(crate) mod values;
