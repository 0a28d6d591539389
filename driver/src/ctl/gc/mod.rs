//! `psictl gc`: removes registrations that no podman store has any more, and the plaintext that podman's file driver
//! keeps of secrets that psid serves.
//!
//! Only what is proven to be unused is removed (`inventory` proves, `report` prints): a registration whose store was
//! read, has other secrets, and does not have this one.

mod inventory;
mod report;

use psi_common::{Exit, Paths};

use super::names;
use super::progress::Progress;
use crate::client::{Client, Deadline};
use crate::ctl::args::GcOptions;
use crate::error::CliError;
use crate::stdio;
use inventory::GcInventory;

pub(crate) fn run(paths: &Paths, options: &GcOptions) -> Result<(), CliError> {
    let mut inventory = inventory::load(paths, options)?;
    if !options.dry_run {
        // The next run can then prove more.
        names::report(paths, &inventory.stores);
        remove(&mut inventory, paths)?;
    }
    stdio::write_text(&if options.json {
        report::as_json(&inventory, options)
    } else {
        report::as_text(&inventory, options)
    })?;
    result(&inventory)
}

fn remove(inventory: &mut GcInventory, paths: &Paths) -> Result<(), CliError> {
    let client = Client::new(paths, Deadline::Admin);
    let progress = Progress::of("registrations removed", inventory.unused.len());
    for (count, unused) in inventory.unused.iter().enumerate() {
        progress.show(count);
        if let Ok(id) = unused.id.parse() {
            client.delete(id, true)?;
        }
    }
    let values = inventory.values_to_remove();
    if !values.is_empty() {
        inventory.plaintext.remove(&values)?;
    }
    Ok(())
}

/// The exit status: not 0 if anything was kept or not read.
fn result(inventory: &GcInventory) -> Result<(), CliError> {
    let values = inventory.plaintext.differing.len() + inventory.left_values();
    let kept = inventory.kept.len() + values + inventory.unread.len();
    if kept == 0 {
        return Ok(());
    }
    Err(CliError::new(
        Exit::Drift,
        "some registrations or values were kept, or some stores were not read",
        "see the lines that begin with `kept` and `not read`",
    ))
}
