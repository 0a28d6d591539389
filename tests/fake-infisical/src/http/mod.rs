//! HTTP/1.1 by hand: faults control every byte.

pub mod read;
pub mod request;
pub mod response;
