//! Real podman, real containers: what psi is for.

mod host;

mod job;
mod lifecycle;
mod running;
mod sealed;
