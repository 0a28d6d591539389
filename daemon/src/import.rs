//! Secrets are brought to a provider: what is there is looked at first, and what was written is read back.

use std::collections::HashMap;
use std::sync::Arc;

use psi_common::SecretBytes;

use crate::lookup::{Service, ServiceError};
use crate::model::clock::Now;
use crate::provider::circuit_breaker::Caller;
use crate::provider::upstream::{Call, CallError, Route, Upstream};
use crate::provider::{ProviderError, SecretWriter, Source, Target, Write};

/// What is to be brought where.
pub(crate) struct Order {
    /// The folder.
    pub target: Target,
    /// By key; no two of one key.
    pub secrets: Vec<(String, SecretBytes)>,
    /// What to do about a key that is there with another value.
    pub conflict: Conflict,
    /// Only tell.
    pub dry_run: bool,
    /// Make the folder where it is missing.
    pub make_folder: bool,
}

/// What to do about a key that is there with another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// Write nothing at all.
    Fail,
    /// Leave it.
    Skip,
    /// Write the new value.
    Overwrite,
}

/// What became of a secret.
pub(crate) struct Outcome {
    /// What became of it.
    pub fate: Fate,
    /// Why, and what to know besides.
    pub why: String,
}

/// What became of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was not there.
    Created,
    /// It was there with another value.
    Overwritten,
    /// It was there with this value.
    Unchanged,
    /// It is there with another value, and stays.
    Skipped,
    /// It is there with another value, so nothing was written.
    Conflicting,
    /// The provider cannot keep it.
    Unfit,
    /// The provider did not take it.
    Failed,
}

/// A folder's own secrets; without a value, where psid may not read it.
type Present = HashMap<String, Option<SecretBytes>>;

/// Brings the secrets; an outcome for each, in their order.
pub(crate) async fn run(
    service: &Service,
    order: &Order,
    now: Now,
) -> Result<Vec<Outcome>, ServiceError> {
    let upstreams = service.upstreams();
    let mut writers =
        upstreams.providers.values().filter_map(|one| Some((one, one.provider.writer()?)));
    let (upstream, writer) = writers.next().ok_or_else(|| {
        ServiceError::Malformed(
            "the config has no provider that takes secrets; add [providers.infisical]".into(),
        )
    })?;
    if let Some(why) = service.drill.forbids(upstream.provider.persistence(), now.mono) {
        return Err(ServiceError::Unavailable(format!(
            "nothing was imported: {why}; try again later"
        )));
    }
    let source = Source {
        project: order.target.project.clone(),
        path: order.target.path.clone(),
        recursive: false,
    };
    let extent = upstream.provider.extent(&source).map_err(|why| {
        ServiceError::Malformed(format!("nothing was imported: {why}; check the project's name"))
    })?;
    let call = upstream.call_for_directory(&extent, Route::Write, Caller::Admin);
    let import = Import { upstream, call, writer, order, now };
    let present = import.present_or_made().await.map_err(|error| import.told(&error))?;
    let mut outcomes: Vec<Outcome> =
        order.secrets.iter().map(|secret| import.judge(secret, &present)).collect();
    let conflict = outcomes.iter().any(|outcome| outcome.fate == Fate::Conflicting);
    if order.dry_run || conflict {
        return Ok(outcomes);
    }
    import.write(&mut outcomes).await;
    Ok(outcomes)
}

struct Import<'a> {
    upstream: &'a Arc<Upstream>,
    call: Call,
    writer: &'a dyn SecretWriter,
    order: &'a Order,
    now: Now,
}

impl Import<'_> {
    /// Makes a call, if the provider may be asked, and takes note of how it fares.
    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        self.upstream.call(&self.call, self.now.lately(), call).await.map_err(CallError::error)
    }

    async fn present(&self) -> Result<Present, ProviderError> {
        self.ask(self.writer.present(&self.order.target)).await
    }

    /// Likewise; a folder that is missing is made, if that was asked for.
    async fn present_or_made(&self) -> Result<Present, ProviderError> {
        match self.present().await {
            Err(ProviderError::NotFound(_)) if self.order.make_folder => {}
            answer => return answer,
        }
        if self.order.dry_run {
            return Ok(Present::new());
        }
        self.ask(self.writer.make_folder(&self.order.target)).await?;
        self.present().await
    }

    fn judge(&self, (key, value): &(String, SecretBytes), present: &Present) -> Outcome {
        if let Some(why) = self.writer.unfit(key, value) {
            return Outcome { fate: Fate::Unfit, why };
        }
        let fate = match (present.get(key), self.order.conflict) {
            (None, _) => Fate::Created,
            (Some(Some(known)), _) if known.same_as(value) => Fate::Unchanged,
            (Some(_), Conflict::Fail) => Fate::Conflicting,
            (Some(_), Conflict::Skip) => Fate::Skipped,
            (Some(_), Conflict::Overwrite) => Fate::Overwritten,
        };
        Outcome { fate, why: remark(value) }
    }

    async fn write(&self, outcomes: &mut [Outcome]) {
        for (fate, how) in [(Fate::Created, Write::Create), (Fate::Overwritten, Write::Update)] {
            let chosen = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.fate == fate);
            let chosen: Vec<usize> = chosen.map(|(index, _)| index).collect();
            self.write_all(how, &chosen, outcomes).await;
        }
        self.check(outcomes).await;
    }

    /// In as many requests as it takes; one that fails costs its own secrets.
    async fn write_all(&self, how: Write, chosen: &[usize], outcomes: &mut [Outcome]) {
        let secrets: Vec<_> = chosen.iter().map(|index| &self.order.secrets[*index]).collect();
        let mut at = 0;
        while at < secrets.len() {
            let rest = &secrets[at..];
            let count = self.writer.batch(rest);
            let batch = &rest[..count.min(rest.len())];
            let written = self.ask(self.writer.write(&self.order.target, how, batch)).await;
            if let Err(error) = written {
                for index in &chosen[at..at + batch.len()] {
                    outcomes[*index] = Outcome { fate: Fate::Failed, why: error.to_string() };
                }
            }
            at += batch.len();
        }
    }

    /// That a provider took something is no proof that it has it.
    async fn check(&self, outcomes: &mut [Outcome]) {
        let written = |outcome: &Outcome| matches!(outcome.fate, Fate::Created | Fate::Overwritten);
        if !outcomes.iter().any(written) {
            return;
        }
        let present = self.present().await;
        for ((key, value), outcome) in self.order.secrets.iter().zip(outcomes) {
            if !written(outcome) {
                continue;
            }
            let why = match &present {
                Err(error) => format!("it was written, and cannot be read back: {error}"),
                Ok(present) => match present.get(key) {
                    Some(Some(found)) if found.same_as(value) => continue,
                    Some(None) => "it was written, and psid may not read it back".into(),
                    _ => "it was written, and the provider gives another value".into(),
                },
            };
            *outcome = Outcome { fate: Fate::Failed, why };
        }
    }

    fn told(&self, error: &ProviderError) -> ServiceError {
        let name = &self.upstream.name;
        match error {
            ProviderError::NotFound(why) => ServiceError::NotFound(format!(
                "{name} has no such place: {why}; make the folder {} with --make-folder",
                self.order.target
            )),
            ProviderError::Denied(why) => ServiceError::Denied(format!(
                "{name} denies it: {why}; give psid's identity the right to read and write {}",
                self.order.target
            )),
            ProviderError::Misbehaved(why) => ServiceError::Malformed(format!(
                "{name} does not take it: {why}; check the project, the environment and the path"
            )),
            other => ServiceError::Unavailable(format!(
                "{name} cannot be asked: {other}; nothing was imported, try again later"
            )),
        }
    }
}

/// What Infisical makes of a value when it is read.
fn remark(value: &SecretBytes) -> String {
    let bytes = value.expose_secret();
    let mut pairs = bytes.windows(2);
    if pairs.any(|pair| pair == b"${") {
        return "it has a ${…}, which the provider may expand".into();
    }
    String::new()
}
