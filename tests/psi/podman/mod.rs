//! Real podman, real containers: what psi is for.

mod host;

mod from_python;
mod job;
mod lifecycle;
mod running;
mod sealed;
