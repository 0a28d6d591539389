//! Version 1, the Python PSI: podman has its commands, and its mappings are references that psid reads.

use std::path::PathBuf;

use psi_common::{MAX_SECRET_BYTES, Paths, Problem, SecretBytes};
use psi_proto::v1::StoreKind;

use super::{Data, HostState, PlannedRegistration, SourceStore};
use crate::ctl::args::MigrateOptions;
use crate::ctl::podman::{Directory, Secret, resolve};

/// Version 1, or a psi-driver at another path.
pub(super) struct VersionOne<'a> {
    host: &'a HostState,
    /// The directory of its mappings.
    state: PathBuf,
}

impl<'a> VersionOne<'a> {
    pub(super) fn open(paths: &Paths, host: &'a HostState, options: &MigrateOptions) -> Self {
        let state = options.state.clone().unwrap_or_else(|| paths.state.clone());
        Self { host, state }
    }

    /// Its data of a secret: a mapping, which is not secret, or a value that its HSM sealed.
    fn mapping(&self, secret: &Secret) -> Result<SecretBytes, Problem> {
        // The directory may be another user's: a link or a FIFO in it is not followed.
        for path in [self.state.clone(), self.state.join("secrets")] {
            let directory = Directory::open(&path);
            let mapping = directory.and_then(|directory| match directory {
                Some(directory) => directory.read(secret.id.as_str(), MAX_SECRET_BYTES as u64),
                None => Ok(None),
            });
            match mapping {
                Ok(Some(mapping)) => return Ok(mapping),
                Ok(None) => {}
                Err(error) => {
                    let what = format!("{}: {error}", path.display());
                    return Err(Problem::new(what, "run it as root"));
                }
            }
        }
        Err(Problem::new(
            format!("psid has no registration of it and {} no mapping", self.state.display()),
            "give the state directory of version 1 with --state",
        ))
    }
}

impl SourceStore for VersionOne<'_> {
    fn has(&self, secret: &Secret) -> bool {
        secret.names_psi() && !self.host.commands.matches(&secret.options)
    }

    fn plan(&self, secret: &Secret) -> Result<PlannedRegistration<'_>, Problem> {
        if let Some(known) = self.host.registered.get(&secret.id) {
            return Ok(PlannedRegistration { what: known.description.clone(), data: None });
        }
        let mapping = self.mapping(secret)?;
        let what = format!("the mapping in {}", self.state.display());
        Ok(PlannedRegistration { what, data: Some((Data::Owned(mapping), StoreKind::Reference)) })
    }

    /// Runs the old lookup command, which works as long as version 1 runs.
    fn has_value(&self, secret: &Secret, value: &SecretBytes) -> Option<bool> {
        let lookup = secret.options.get("lookup")?;
        resolve(lookup, secret.id).ok().map(|own| own.same_as(value))
    }
}
