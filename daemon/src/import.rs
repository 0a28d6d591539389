//! Imports secrets into a provider: compares them with the existing ones first, and reads back what was
//! written.

use std::collections::HashMap;
use std::sync::Arc;

use psi_common::SecretBytes;

use crate::lookup::{Service, ServiceError};
use crate::model::clock::Now;
use crate::provider::circuit_breaker::Caller;
use crate::provider::upstream::{Call, CallError, Route, Upstream};
use crate::provider::{ProviderError, SecretWriter, Source, WriteMode, WriteTarget};

/// An import: the secrets and their destination.
pub(crate) struct ImportJob {
    /// The directory to write to.
    pub target: WriteTarget,
    /// Keys and values; each key once.
    pub secrets: Vec<(String, SecretBytes)>,
    /// What to do about a key that exists with another value.
    pub conflict: ConflictPolicy,
    /// Whether to report only, and write nothing.
    pub dry_run: bool,
    /// Whether to make a missing directory.
    pub make_directory: bool,
}

/// What to do about a key that exists with another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConflictPolicy {
    /// Write nothing at all.
    Fail,
    /// Keep the existing value.
    Skip,
    /// Write the new value.
    Overwrite,
}

/// The result for one secret.
pub(crate) struct ImportResult {
    /// What was done.
    pub outcome: ImportOutcome,
    /// The reason, or a remark about the value; may be empty.
    pub why: String,
}

/// What an import did with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImportOutcome {
    /// It is new.
    Created,
    /// It replaces another value.
    Overwritten,
    /// It exists with this value.
    Unchanged,
    /// It exists with another value, which stays.
    Skipped,
    /// It exists with another value, so that nothing was written.
    Conflicting,
    /// The provider would not keep it byte for byte.
    Rejected,
    /// The provider did not write it.
    Failed,
}

/// The secrets that a directory itself has; without a value where psid may not read it.
type Existing = HashMap<String, Option<SecretBytes>>;

/// Imports the secrets; returns a result for each, in their order.
pub(crate) async fn run(
    service: &Service,
    job: &ImportJob,
    now: Now,
) -> Result<Vec<ImportResult>, ServiceError> {
    let upstreams = service.upstreams();
    let mut writers =
        upstreams.providers.values().filter_map(|one| Some((one, one.provider.writer()?)));
    let (upstream, writer) = writers.next().ok_or_else(|| {
        ServiceError::Malformed(
            "the config has no provider that secrets can be written to; add [providers.infisical]"
                .into(),
        )
    })?;
    if let Some(why) = service.simulated_outage(upstream.provider.persistence(), now.mono) {
        return Err(ServiceError::Unavailable(format!(
            "nothing was imported: {why}; try again later"
        )));
    }
    let source = Source {
        project: job.target.project.clone(),
        path: job.target.path.clone(),
        recursive: false,
    };
    let scope = upstream.provider.scope_of(&source).map_err(|why| {
        ServiceError::Malformed(format!("nothing was imported: {why}; check the project's name"))
    })?;
    let call = upstream.call_for_directory(&scope, Route::Write, Caller::Admin);
    let import = Import { upstream, call, writer, job, now };
    let existing = import.existing_or_made().await.map_err(|error| import.service_error(&error))?;
    let mut results: Vec<ImportResult> =
        job.secrets.iter().map(|secret| import.compare(secret, &existing)).collect();
    let has_conflict = results.iter().any(|result| result.outcome == ImportOutcome::Conflicting);
    if job.dry_run || has_conflict {
        return Ok(results);
    }
    import.write(&mut results).await;
    Ok(results)
}

struct Import<'a> {
    upstream: &'a Arc<Upstream>,
    call: Call,
    writer: &'a dyn SecretWriter,
    job: &'a ImportJob,
    now: Now,
}

impl Import<'_> {
    /// Makes a call through the circuit breaker.
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        self.upstream.call(&self.call, self.now.advanced(), call).await.map_err(CallError::error)
    }

    async fn existing(&self) -> Result<Existing, ProviderError> {
        self.call(self.writer.existing(&self.job.target)).await
    }

    /// The existing secrets; makes a missing directory if the job asks for it.
    async fn existing_or_made(&self) -> Result<Existing, ProviderError> {
        match self.existing().await {
            Err(ProviderError::NotFound(_)) if self.job.make_directory => {}
            answer => return answer,
        }
        if self.job.dry_run {
            return Ok(Existing::new());
        }
        self.call(self.writer.make_directory(&self.job.target)).await?;
        self.existing().await
    }

    /// What the import is to do with a secret.
    fn compare(&self, (key, value): &(String, SecretBytes), existing: &Existing) -> ImportResult {
        if let Some(why) = self.writer.rejection(key, value) {
            return ImportResult { outcome: ImportOutcome::Rejected, why };
        }
        let outcome = match (existing.get(key), self.job.conflict) {
            (None, _) => ImportOutcome::Created,
            (Some(Some(known)), _) if known.same_as(value) => ImportOutcome::Unchanged,
            (Some(_), ConflictPolicy::Fail) => ImportOutcome::Conflicting,
            (Some(_), ConflictPolicy::Skip) => ImportOutcome::Skipped,
            (Some(_), ConflictPolicy::Overwrite) => ImportOutcome::Overwritten,
        };
        ImportResult { outcome, why: remark(value) }
    }

    async fn write(&self, results: &mut [ImportResult]) {
        for (outcome, mode) in [
            (ImportOutcome::Created, WriteMode::Create),
            (ImportOutcome::Overwritten, WriteMode::Update),
        ] {
            let chosen = results.iter().enumerate().filter(|(_, result)| result.outcome == outcome);
            let chosen: Vec<usize> = chosen.map(|(index, _)| index).collect();
            self.write_all(mode, &chosen, results).await;
        }
        self.verify(results).await;
    }

    /// Writes in as many requests as needed; a request that fails concerns its own secrets only.
    async fn write_all(&self, mode: WriteMode, chosen: &[usize], results: &mut [ImportResult]) {
        let secrets: Vec<_> = chosen.iter().map(|index| &self.job.secrets[*index]).collect();
        let mut at = 0;
        while at < secrets.len() {
            let rest = &secrets[at..];
            let count = self.writer.batch(rest);
            let batch = &rest[..count.min(rest.len())];
            let written = self.call(self.writer.write(&self.job.target, mode, batch)).await;
            if let Err(error) = written {
                for index in &chosen[at..at + batch.len()] {
                    let why = error.to_string();
                    results[*index] = ImportResult { outcome: ImportOutcome::Failed, why };
                }
            }
            at += batch.len();
        }
    }

    /// Reads back what was written: a successful write is no proof that the value is kept.
    async fn verify(&self, results: &mut [ImportResult]) {
        let is_written = |result: &ImportResult| {
            matches!(result.outcome, ImportOutcome::Created | ImportOutcome::Overwritten)
        };
        if !results.iter().any(is_written) {
            return;
        }
        let existing = self.existing().await;
        for ((key, value), result) in self.job.secrets.iter().zip(results) {
            if !is_written(result) {
                continue;
            }
            let why = match &existing {
                Err(error) => format!("it was written, and cannot be read back: {error}"),
                Ok(existing) => match existing.get(key) {
                    Some(Some(found)) if found.same_as(value) => continue,
                    Some(None) => "it was written, and psid may not read it back".into(),
                    _ => "it was written, and the provider returns another value".into(),
                },
            };
            *result = ImportResult { outcome: ImportOutcome::Failed, why };
        }
    }

    fn service_error(&self, error: &ProviderError) -> ServiceError {
        let name = &self.upstream.name;
        match error {
            ProviderError::NotFound(why) => ServiceError::NotFound(format!(
                "{name} has no such directory: {why}; make {} with --make-folder",
                self.job.target
            )),
            ProviderError::Denied(why) => ServiceError::Denied(format!(
                "{name} denies it: {why}; give psid's identity the right to read and write {}",
                self.job.target
            )),
            ProviderError::Misbehaved(why) => ServiceError::Malformed(format!(
                "{name} refuses the request: {why}; check the project, the environment and the path"
            )),
            other => ServiceError::Unavailable(format!(
                "nothing was imported, because {name} cannot be reached: {other}; try again later"
            )),
        }
    }
}

/// A remark on a value that Infisical may change when it is read.
fn remark(value: &SecretBytes) -> String {
    let bytes = value.expose_secret();
    let mut pairs = bytes.windows(2);
    if pairs.any(|pair| pair == b"${") {
        return "it contains ${…}, which the provider may expand".into();
    }
    String::new()
}
