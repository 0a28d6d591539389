//! Names that only podman knows.

use std::process::{Command, Stdio};

use psi_common::{Exit, SecretId};

use crate::client::Key;
use crate::failure::Failure;

/// Calls with the key that `name` means: an id as it is; a name as psid knows it (WORKLOAD--KEY, a
/// reference); else the id that podman has for the name.
///
/// Podman is asked by its command, which finds the right store in every configuration. So this is
/// for people and scripts: podman itself must never be made to wait for it.
pub(crate) fn by_any_name<T>(
    name: &str,
    call: impl Fn(&Key) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let Ok(id) = name.parse::<SecretId>() {
        return call(&Key::Id(id));
    }
    match call(&Key::Name(name.to_owned())) {
        Err(unknown) if unknown.exit() == Exit::NoSuchSecret && !name.starts_with('{') => {
            call(&Key::Id(podman_id(name).ok_or(unknown)?))
        }
        answer => answer,
    }
}

fn podman_id(name: &str) -> Option<SecretId> {
    let output = Command::new("podman")
        .args(["secret", "inspect", "--format", "{{.ID}}", "--", name])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
