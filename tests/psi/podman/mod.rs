//! Real podman, real containers: what psi is for.

pub(crate) mod host;

mod from_python;
mod job;
mod lifecycle;
mod literal;
mod locks;
mod running;
mod sealed;
