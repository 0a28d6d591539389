//! Podman's file driver: every value is in clear, in one file, and psid seals it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use psi_common::{Exit, Paths, SecretBytes, SecretId};
use psi_proto::v1::{PlannedSecret, StoreKind};

use super::{Data, Host, Old, Plan};
use crate::client::{Client, Deadline, Key};
use crate::ctl::podman::{FileDriver, Secret};
use crate::error::CliError;

/// The values of podman's file driver, and what else psid may know them as.
pub(super) struct FileStore<'a> {
    paths: &'a Paths,
    host: &'a Host,
    values: BTreeMap<SecretId, SecretBytes>,
    /// What the workloads of the config want registered, by podman name.
    planned: OnceCell<BTreeMap<String, PlannedSecret>>,
}

impl<'a> FileStore<'a> {
    /// Reads the values; a psid that can seal none is told of before anything is done.
    pub(super) fn open(paths: &'a Paths, host: &'a Host) -> Result<Self, CliError> {
        let mut folders: BTreeMap<_, (FileDriver, Vec<&Secret>)> = BTreeMap::new();
        for secret in host.secrets.iter().filter(|secret| secret.driver == "file") {
            let files = FileDriver::of_secret(secret, &host.about.graph_root);
            folders.entry(files.path()).or_insert_with(|| (files, Vec::new())).1.push(secret);
        }
        if !folders.is_empty()
            && Client::new(paths, Deadline::Probe).status(false)?.backend.is_empty()
        {
            return Err(CliError::new(
                Exit::BadInput,
                "psid has no key to seal values with",
                "set backend in [cache] of the config, and run `psictl cache init`",
            ));
        }
        let mut values = BTreeMap::new();
        for (files, secrets) in folders.into_values() {
            values.extend(files.values(&crate::ctl::podman::ids(secrets))?);
        }
        Ok(Self { paths, host, values, planned: OnceCell::new() })
    }

    /// What a workload wants under this name, if its provider gives just this value: then a literal would
    /// only keep it from following the provider.
    fn equal_at_provider(&self, secret: &Secret) -> Option<&PlannedSecret> {
        let planned = self.planned.get_or_init(|| {
            let plan = Client::new(self.paths, Deadline::Admin).plan(false, &mut |_| {});
            let secrets = plan.unwrap_or_default().into_iter().flat_map(|plan| plan.secrets);
            secrets.map(|secret| (secret.name.clone(), secret)).collect()
        });
        let wanted = planned.get(&secret.name).filter(|wanted| wanted.error.is_empty())?;
        let key = Key::Name(wanted.reference.clone());
        let given = Client::new(self.paths, Deadline::Admin).lookup(&key).ok()?;
        self.values.get(&secret.id)?.same_as(&given).then_some(wanted)
    }
}

impl Old for FileStore<'_> {
    fn has(&self, secret: &Secret) -> bool {
        secret.driver == "file"
    }

    fn plan(&self, secret: &Secret) -> Result<Plan<'_>, String> {
        let value = self
            .values
            .get(&secret.id)
            .ok_or("podman's file driver has no value of it; remove it, and create it again")?;
        // The comparison tells whether a former run's is the right one.
        if self.host.registered.contains_key(&secret.id) {
            return Ok(Plan { what: "registered by a former run".into(), data: None });
        }
        Ok(match self.equal_at_provider(secret) {
            Some(wanted) => Plan {
                what: format!("a reference to {}, which has the same value", wanted.source),
                data: Some((
                    Data::Owned(SecretBytes::new(wanted.reference.clone().into_bytes())),
                    StoreKind::Reference,
                )),
            },
            None => Plan {
                what: "a literal, sealed by psid".into(),
                data: Some((Data::Borrowed(value), StoreKind::Literal)),
            },
        })
    }

    fn gives(&self, secret: &Secret, value: &SecretBytes) -> Option<bool> {
        self.values.get(&secret.id).map(|own| own.same_as(value))
    }
}
