//! Podman's file driver: every value is plaintext in one file, and psid seals it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use psi_common::{Exit, Paths, Problem, SecretBytes, SecretId};
use psi_proto::v1::{PlanRequest, PlannedSecret, StoreKind};

use super::{Data, HostState, PlannedRegistration, SourceStore};
use crate::client::{Client, Deadline, Key};
use crate::ctl::podman::{FileDriver, Secret, is_kube_document, kube_document_remedy};
use crate::error::CliError;

/// The values of podman's file driver, and the references of workloads that may replace them.
pub(super) struct FileStore<'a> {
    paths: &'a Paths,
    host: &'a HostState,
    values: BTreeMap<SecretId, SecretBytes>,
    /// The secrets of the configured workloads, by podman name.
    planned: OnceCell<BTreeMap<String, PlannedSecret>>,
}

impl<'a> FileStore<'a> {
    /// Reads the values. Fails before any change if psid cannot seal values.
    pub(super) fn open(paths: &'a Paths, host: &'a HostState) -> Result<Self, CliError> {
        let mut directories: BTreeMap<_, (FileDriver, Vec<&Secret>)> = BTreeMap::new();
        for secret in host.secrets.iter().filter(|secret| secret.driver == "file") {
            let files = FileDriver::of_secret(secret, &host.about.graph_root);
            directories.entry(files.path()).or_insert_with(|| (files, Vec::new())).1.push(secret);
        }
        if !directories.is_empty()
            && Client::new(paths, Deadline::Probe).status(false)?.backend.is_empty()
        {
            return Err(CliError::new(
                Exit::BadInput,
                "psid has no key to seal values with",
                "set backend in [cache] of the config, and run `psictl cache init`",
            ));
        }
        let mut values = BTreeMap::new();
        for (files, secrets) in directories.into_values() {
            values.extend(files.values(&crate::ctl::podman::ids(secrets))?);
        }
        Ok(Self { paths, host, values, planned: OnceCell::new() })
    }

    /// The workload's secret of this name, if its provider has the same value: a literal would keep it from following
    /// the provider.
    fn equal_at_provider(&self, secret: &Secret) -> Option<&PlannedSecret> {
        let planned =
            self.planned().get(&secret.name).filter(|planned| planned.error.is_empty())?;
        let key = Key::Name(planned.reference.clone());
        let current = Client::new(self.paths, Deadline::Admin).lookup(&key).ok()?;
        self.values.get(&secret.id)?.same_as(&current).then_some(planned)
    }
}

impl FileStore<'_> {
    fn planned(&self) -> &BTreeMap<String, PlannedSecret> {
        self.planned.get_or_init(|| {
            let plan =
                Client::new(self.paths, Deadline::Admin).plan(&PlanRequest::default(), &mut |_| {});
            let secrets = plan.unwrap_or_default().into_iter();
            let secrets = secrets.flat_map(|plan| plan.secrets.into_iter().chain(plan.kube));
            secrets.map(|secret| (secret.name.clone(), secret)).collect()
        })
    }

    /// Whether it took the place of one of psi's secrets: a literal of it would keep the values of that moment.
    fn is_replacement(&self, secret: &Secret, value: &SecretBytes) -> bool {
        let was_deleted = || {
            let deleted = Client::new(self.paths, Deadline::Admin).restorable();
            deleted.is_ok_and(|all| all.iter().any(|one| one.name == secret.name))
        };
        is_kube_document(value) && (self.planned().contains_key(&secret.name) || was_deleted())
    }
}

impl SourceStore for FileStore<'_> {
    fn has(&self, secret: &Secret) -> bool {
        secret.driver == "file"
    }

    fn plan(&self, secret: &Secret) -> Result<PlannedRegistration<'_>, Problem> {
        let value = self.values.get(&secret.id).ok_or_else(|| {
            Problem::new(
                "podman's file driver has no value of it",
                "remove it with `podman secret rm`, then create it again",
            )
        })?;
        // The comparison that follows checks the value of the former run.
        if self.host.registered.contains_key(&secret.id) {
            return Ok(PlannedRegistration {
                what: "registered by a former run".into(),
                data: None,
            });
        }
        if self.is_replacement(secret, value) {
            return Err(Problem::new(
                "it is a `kind: Secret` document by which `podman kube play` replaced a secret of psi",
                kube_document_remedy(&secret.name),
            ));
        }
        Ok(match self.equal_at_provider(secret) {
            Some(planned) => PlannedRegistration {
                what: format!("a reference to {}, which has the same value", planned.source),
                data: Some((
                    Data::Owned(SecretBytes::new(planned.reference.clone().into_bytes())),
                    StoreKind::Reference,
                )),
            },
            None => PlannedRegistration {
                what: "a literal, sealed by psid".into(),
                data: Some((Data::Borrowed(value), StoreKind::Literal)),
            },
        })
    }

    fn has_value(&self, secret: &Secret, value: &SecretBytes) -> Option<bool> {
        self.values.get(&secret.id).map(|own| own.same_as(value))
    }
}
