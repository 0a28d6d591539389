//! Where new secrets of podman go, by podman's own word and by `psid doctor`'s: psi reimplements how podman merges its
//! config, so every podman at hand is asked (`tests/podmans.sh`).

mod generated;
mod named;
mod oracle;

pub(crate) use oracle::{Layout, UnpackedPodman};
