//! A fake of the Infisical server, faithful enough that its official SDKs cannot tell.
//!
//! Everything the server knows lives in one [`fake::FakeInfisical`] behind one lock, and every request
//! is answered by a plain function of it: no handler waits, so no two requests interleave.
//! Only the sockets are asynchronous, because that is where the faults act.
//!
//! In the order a request meets them: [`net`] accepts, [`http`] reads, [`fault`] may interfere,
//! [`api`] checks and answers from [`auth`], [`state`] and [`secrets`], and [`http`] writes.
//! [`metadata`] is another port, on which the clouds tell a machine who it is.
//! [`control`] is the second port, from which a test steers all of it.

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
