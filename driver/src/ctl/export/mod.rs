//! Exports the values of workloads to the host: into a command's environment (`exec`), as text (`env`), or into files in
//! RAM (`render`).

pub(crate) mod env;
pub(crate) mod exec;
pub(crate) mod render;
mod rendered;
mod template;
mod variables;

#[cfg(feature = "testing")]
pub(super) use template::fill_for_tests;

use psi_common::{Exit, Paths, SecretBytes};
use psi_proto::v1::{PlanRequest, PlannedSecret, PlannedWorkload};

use crate::client::{Client, Deadline, Key};
use crate::error::CliError;

/// The named workloads; without names, the only workload.
fn workloads(
    client: &Client,
    names: &[String],
    title: &str,
) -> Result<Vec<PlannedWorkload>, CliError> {
    let mut all =
        client.plan(&PlanRequest { pull: true, ..PlanRequest::default() }, &mut |_| {})?;
    let known: Vec<String> = all.iter().map(|workload| workload.name.clone()).collect();
    let known = known.join(", ");
    if names.is_empty() && all.len() != 1 {
        let what = if all.is_empty() {
            "the config has no workload".into()
        } else {
            format!("the config has several workloads: {known}")
        };
        return Err(CliError::new(Exit::Usage, what, "name one with --workload"));
    }
    if let Some(unknown) =
        names.iter().find(|name| all.iter().all(|workload| workload.name != **name))
    {
        let what = format!("the config has no workload {}", unknown.escape_debug());
        return Err(CliError::new(Exit::BadInput, what, format!("it has {known}")));
    }
    all.retain(|workload| names.is_empty() || names.contains(&workload.name));
    for workload in &all {
        check(workload, title)?;
    }
    Ok(all)
}

/// Checks that the values of a workload can be exported. In an outage the known values are, unless some are known to be
/// missing: a key of one source may override that of another.
fn check(workload: &PlannedWorkload, title: &str) -> Result<(), CliError> {
    let PlannedWorkload { name, error, incomplete, missing, secrets, .. } = workload;
    if !error.is_empty() {
        return Err(CliError::without_remedy(Exit::BadInput, error.as_str()));
    }
    if incomplete.is_empty() {
        return Ok(());
    }
    if secrets.is_empty() {
        return Err(CliError::new(
            Exit::TryLater,
            format!("psid has no value of {name}: {incomplete}"),
            "try again when the provider is back",
        ));
    }
    if !missing.is_empty() {
        return Err(CliError::new(
            Exit::TryLater,
            format!("psid lacks {missing}, which {name} needs: {incomplete}"),
            "try again when the provider is back",
        ));
    }
    crate::ctl::note(title, &format!("{name} has its last known values: {incomplete}"));
    Ok(())
}

fn value(client: &Client, secret: &PlannedSecret) -> Result<SecretBytes, CliError> {
    client.lookup(&Key::Name(secret.reference.clone())).map_err(|failure| {
        let exit = failure.exit();
        if exit == Exit::NoSuchSecret && !secret.error.is_empty() {
            return CliError::without_remedy(exit, &secret.error);
        }
        CliError::without_remedy(exit, format!("{}: {failure}", secret.key.escape_debug()))
    })
}

/// A client with a deadline for many lookups.
fn client(paths: &Paths) -> Client {
    Client::new(paths, Deadline::Admin)
}
