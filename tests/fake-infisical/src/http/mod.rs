//! HTTP/1.1 by hand: the faults need every byte that is written to be ours.

pub mod read;
pub mod request;
pub mod response;
