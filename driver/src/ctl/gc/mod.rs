//! `psictl gc`: removes what psid keeps and no podman has any more, and what podman's file driver keeps in
//! plaintext of secrets that psi serves.
//!
//! Only what is proven to be unused is removed (`look` proves, `report` tells): a registration whose store was
//! looked at, has other secrets, and has not this one.

mod look;
mod report;

use psi_common::{Exit, Paths};

use super::names;
use super::progress::Progress;
use crate::client::{Client, Deadline};
use crate::ctl::args::GcOptions;
use crate::error::CliError;
use crate::stdio;
use look::Found;

pub(crate) fn run(paths: &Paths, options: &GcOptions) -> Result<(), CliError> {
    let mut found = look::look(paths, options)?;
    if !options.dry_run {
        // So that the next run can prove more.
        names::note(paths, &found.stores);
        remove(&mut found, paths)?;
    }
    stdio::write_text(&if options.json {
        report::as_json(&found, options)
    } else {
        report::as_text(&found, options)
    })?;
    verdict(&found)
}

fn remove(found: &mut Found, paths: &Paths) -> Result<(), CliError> {
    let client = Client::new(paths, Deadline::Admin);
    let progress = Progress::of("registrations removed", found.unused.len());
    for (count, unused) in found.unused.iter().enumerate() {
        progress.show(count);
        if let Ok(id) = unused.id.parse() {
            client.delete(id, true)?;
        }
    }
    let values = found.values_to_remove();
    if !values.is_empty() {
        found.plaintext.remove(&values)?;
    }
    Ok(())
}

fn verdict(found: &Found) -> Result<(), CliError> {
    let values = found.plaintext.differing.len() + found.left_values();
    let kept = found.kept.len() + values + found.unread.len();
    if kept == 0 {
        return Ok(());
    }
    Err(CliError::new(
        Exit::Drift,
        "not everything was looked at, or is proven to be unused",
        "the lines that begin with `kept` and `not looked at` tell what and why",
    ))
}
