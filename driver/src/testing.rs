//! Parsers of psictl that tests outside of the crate use.

pub use crate::ctl::testing::{env_file, template};
