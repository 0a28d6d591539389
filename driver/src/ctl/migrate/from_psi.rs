//! The Python PSI: its podman secrets run its commands, and its mappings are references that psid understands.

use std::path::PathBuf;

use psi_common::{MAX_SECRET_BYTES, Paths, SecretBytes};
use psi_proto::v1::StoreKind;

use super::{Data, Host, Old, Plan};
use crate::ctl::args::MigrateOptions;
use crate::ctl::podman::{Directory, Secret, resolve};

/// The Python PSI, or a psi-driver at another place.
pub(super) struct PythonPsi<'a> {
    host: &'a Host,
    /// The folder of its mappings.
    state: PathBuf,
}

impl<'a> PythonPsi<'a> {
    pub(super) fn open(paths: &Paths, host: &'a Host, options: &MigrateOptions) -> Self {
        let state = options.state.clone().unwrap_or_else(|| paths.state.clone());
        Self { host, state }
    }

    /// What it kept for a secret: a mapping, which is no secret; or a value that its HSM sealed.
    fn mapping(&self, secret: &Secret) -> Result<SecretBytes, String> {
        // It may be another user's: a link or a FIFO there is no mapping.
        for folder in [self.state.clone(), self.state.join("secrets")] {
            let directory = Directory::open(&folder);
            let mapping = directory.and_then(|directory| match directory {
                Some(directory) => directory.read(secret.id.as_str(), MAX_SECRET_BYTES as u64),
                None => Ok(None),
            });
            match mapping {
                Ok(Some(mapping)) => return Ok(mapping),
                Ok(None) => {}
                Err(error) => return Err(format!("{}: {error}; run it as root", folder.display())),
            }
        }
        Err(format!(
            "psid does not know it, and {} has no mapping of it; name the Python PSI's folder with --state",
            self.state.display()
        ))
    }
}

impl Old for PythonPsi<'_> {
    fn has(&self, secret: &Secret) -> bool {
        secret.names_psi() && !self.host.commands.are(&secret.options)
    }

    fn plan(&self, secret: &Secret) -> Result<Plan<'_>, String> {
        if let Some(known) = self.host.registered.get(&secret.id) {
            return Ok(Plan { what: known.description.clone(), data: None });
        }
        let mapping = self.mapping(secret)?;
        let what = format!("the mapping in {}", self.state.display());
        Ok(Plan { what, data: Some((Data::Owned(mapping), StoreKind::Reference)) })
    }

    /// Its own command gives it, as long as it runs.
    fn gives(&self, secret: &Secret, value: &SecretBytes) -> Option<bool> {
        let lookup = secret.options.get("lookup")?;
        resolve(lookup, secret.id).ok().map(|own| own.same_as(value))
    }
}
