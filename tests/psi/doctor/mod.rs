//! `psi-driver doctor` and `psi-driver gc`: what is wrong on a host, and what nobody wants any more.

mod findings;
mod garbage;
