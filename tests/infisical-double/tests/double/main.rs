//! The double as a black box: the real program, real sockets.

mod clouds;
mod control;
mod dialects;
mod faults;
mod folders;
mod http;
mod identities;
mod reading;
mod support;
mod tls;
mod writing;
