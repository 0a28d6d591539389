//! The verbs of psi-driver: each makes one call.

use psi_common::{Exit, InvalidSecretId, Paths, SecretId};
use psi_proto::v1::StoreKind;

use crate::args::{self, Verb};
use crate::client::{Client, Deadline, Key};
use crate::error::CliError;
use crate::stdio;

/// Runs a verb.
pub(crate) fn run(paths: &Paths, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Lookup => lookup(paths),
        Verb::Store(kind) => store(paths, *kind),
        Verb::Delete => delete(paths),
        Verb::List => list(paths),
        Verb::Get { name } => get(paths, name),
        Verb::Health => health(paths),
    }
}

fn lookup(paths: &Paths) -> Result<(), CliError> {
    let id = secret_id()?;
    let value = Client::new(paths, Deadline::Podman).lookup(&Key::Id(id))?;
    stdio::write_value(&value)
}

fn store(paths: &Paths, kind: StoreKind) -> Result<(), CliError> {
    let id = secret_id()?;
    let value = stdio::read_value()?;
    Client::new(paths, Deadline::Podman).store(id, &value, kind)
}

/// Deletes a registration. psid answers an unknown id with success: podman could never remove a secret that its driver
/// lost. An empty id fails without a message: podman ≥ 5.1 passes one on `create --replace` of a missing name, continues
/// after the failure, and would remove another secret after a success.
fn delete(paths: &Paths) -> Result<(), CliError> {
    if args::secret_id().is_some_and(|id| id.is_empty()) {
        return Err(CliError::status_only(Exit::BadInput));
    }
    let id = secret_id()?;
    Client::new(paths, Deadline::Podman).delete(id, false)
}

fn list(paths: &Paths) -> Result<(), CliError> {
    let mut lines = String::new();
    for id in Client::new(paths, Deadline::Podman).list()? {
        lines.push_str(&id);
        lines.push('\n');
    }
    stdio::write_text(&lines)
}

/// By id, or by a name that psid knows: `WORKLOAD--KEY`, or a reference.
fn get(paths: &Paths, name: &str) -> Result<(), CliError> {
    let key = name.parse().map_or_else(|_| Key::Name(name.to_owned()), Key::Id);
    let value = Client::new(paths, Deadline::Podman).lookup(&key)?;
    stdio::write_value(&value)
}

fn health(paths: &Paths) -> Result<(), CliError> {
    Client::new(paths, Deadline::Probe).health()
}

fn secret_id() -> Result<SecretId, CliError> {
    let bad = |what: String| {
        CliError::new(
            Exit::BadInput,
            what,
            "podman sets SECRET_ID; by hand, use an id of `psictl list`",
        )
    };
    let id = args::secret_id().ok_or_else(|| bad("SECRET_ID is not set".into()))?;
    id.to_string_lossy().parse().map_err(|error: InvalidSecretId| bad(error.to_string()))
}
