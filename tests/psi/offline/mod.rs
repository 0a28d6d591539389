//! The provider is out: what is known is served, what is not fails with the cause, and nothing waits
//! longer than podman's patience.

mod faults;
mod hangs;
mod restarts;
mod staleness;
