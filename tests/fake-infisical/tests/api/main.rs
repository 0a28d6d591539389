//! Black-box tests of the fake: the real program and real sockets.

mod clouds;
mod control;
mod dialects;
mod faults;
mod folders;
mod http;
mod identities;
mod issuers;
mod knobs;
mod reading;
mod references;
mod support;
mod tags;
mod tls;
mod writing;
