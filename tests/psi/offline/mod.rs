//! The provider is out: what is known is served, what is not fails with the cause, and nothing waits
//! longer than podman's patience.

mod drill;
mod faults;
mod hangs;
mod probes;
mod restarts;
mod scoped;
mod staleness;
