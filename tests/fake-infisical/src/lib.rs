//! A fake of the Infisical server, with which the official SDKs work unchanged.
//!
//! The server's state is in one [`fake::FakeInfisical`] behind one lock, and every request is
//! answered by a plain function of it: no handler waits, so no two requests interleave. Only the
//! sockets are asynchronous, because the faults apply there.
//!
//! In the order of a request: [`net`] accepts, [`http`] reads, [`fault`] may interfere, [`api`]
//! checks and answers from [`auth`], [`state`] and [`secrets`], and [`http`] writes. [`metadata`]
//! is another port, with the metadata services of clouds. [`control`] is the port by which tests
//! control the fake.

mod api;
mod auth;
mod calendar;
mod cli;
mod clock;
mod control;
mod dialect;
mod fake;
mod fault;
mod http;
mod journal;
mod metadata;
mod net;
mod secrets;
mod serve;
mod settings;
mod state;
mod text;

pub use serve::run;
