//! `psictl get NAME`: a secret's value by any of its names, podman's among them.

use psi_common::Paths;

use super::names;
use crate::client::{Client, Deadline};
use crate::error::CliError;
use crate::stdio;

pub(crate) fn run(paths: &Paths, name: &str) -> Result<(), CliError> {
    let client = Client::new(paths, Deadline::Podman);
    let value = names::by_any_name(name, |key| client.lookup(key))?;
    stdio::write_value(&value)
}
