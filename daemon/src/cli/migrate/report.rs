//! The report of `psid migrate`, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::path::PathBuf;

use psi_common::{Problem, SecretId};
use serde_json::json;

use crate::legacy::adopt::placement::{self, SEALED};
use crate::model::clock::Timestamp;

/// The result of a migration, or of its dry run.
#[derive(Default)]
pub(crate) struct MigrationReport {
    /// Whether it is a dry run.
    pub dry_run: bool,
    /// The old state directory, or one cache file.
    pub from: PathBuf,
    /// The ids of the mappings that were taken over.
    pub taken: Vec<SecretId>,
    /// The ids that are registered with the same reference.
    pub present: Vec<SecretId>,
    /// The ids that are registered with something else, which stays.
    pub conflicting: Vec<SecretId>,
    /// The ids of files that are not taken over, with the reason.
    pub unrecognised: Vec<(SecretId, String)>,
    /// The totals of each provider.
    pub providers: BTreeMap<String, ProviderTotals>,
    /// The result for the cache; none if there was no cache.
    pub values: Option<Result<MigratedValues, Problem>>,
}

/// The totals of one provider.
#[derive(Clone, Copy, Default)]
pub(crate) struct ProviderTotals {
    /// The valid mappings.
    pub mappings: usize,
    /// The values that were taken over.
    pub values: usize,
}

/// The result for the entries of an old cache.
#[derive(Default)]
pub(crate) struct MigratedValues {
    /// The path of the old cache.
    pub cache: PathBuf,
    /// When it was written.
    pub written_at: Timestamp,
    /// The number of values taken over.
    pub taken: usize,
    /// The number of values of which psid's cache has an equal or newer one.
    pub present: usize,
    /// The number of values that no mapping names.
    pub without_mapping: usize,
    /// The number of values that are sealed in their mappings.
    pub sealed: usize,
    /// The number of values whose reference the config does not resolve, by cause.
    pub without_config: BTreeMap<String, usize>,
    /// The ids of mappings without a value in psid's cache.
    pub missing: Vec<SecretId>,
}

impl MigrationReport {
    /// The report as JSON.
    pub(crate) fn to_json(&self) -> String {
        let ids = |ids: &[SecretId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let unrecognised =
            |(id, why): &(SecretId, String)| json!({"id": id.to_string(), "why": why});
        let providers: BTreeMap<_, _> = self
            .providers
            .iter()
            .map(|(name, of)| (name, json!({"mappings": of.mappings, "values": of.values})))
            .collect();
        let values = match &self.values {
            None => json!(null),
            Some(Err(problem)) => json!({"error": problem.to_string()}),
            Some(Ok(values)) => json!({
                "cache": values.cache.to_string_lossy(),
                "written_at_ms": values.written_at.as_millis(),
                "taken": values.taken,
                "already_here": values.present,
                "without_mapping": values.without_mapping,
                "sealed_in_mapping": values.sealed,
                "without_config": values.without_config,
                "mappings_without_value": ids(&values.missing),
            }),
        };
        let report = json!({
            "dry_run": self.dry_run,
            "from": self.from.to_string_lossy(),
            "mappings": {
                "taken": ids(&self.taken),
                "already_here": ids(&self.present),
                "conflicting": ids(&self.conflicting),
                "not_understood": self.unrecognised.iter().map(unrecognised).collect::<Vec<_>>(),
            },
            "values": values,
            "providers": providers,
        });
        format!("{report:#}\n")
    }
}

impl fmt::Display for MigrationReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let would = if self.dry_run { "would be " } else { "" };
        writeln!(
            f,
            "mappings   {} {would}taken over, {} already here, {} conflicting, {} not understood",
            self.taken.len(),
            self.present.len(),
            self.conflicting.len(),
            self.unrecognised.len()
        )?;
        for id in &self.conflicting {
            writeln!(f, "           {id} is registered here for something else, which stays")?;
        }
        for (id, why) in &self.unrecognised {
            writeln!(f, "           {id} is left: {why}")?;
        }
        match &self.values {
            None => writeln!(f, "values     none: there is no cache")?,
            Some(Err(_)) => writeln!(f, "values     none: the cache is not usable")?,
            Some(Ok(values)) => values.write(f, would)?,
        }
        for (name, of) in &self.providers {
            let ProviderTotals { mappings, values } = of;
            let values = if name == SEALED {
                "the values are sealed in them".into()
            } else {
                format!("{values} values {would}taken over")
            };
            writeln!(f, "provider   {name}: {mappings} mappings, {values}")?;
        }
        let what = if self.dry_run { "nothing" } else { "nothing in the old place" };
        writeln!(f, "{what} was changed: {}", self.from.display())
    }
}

impl MigratedValues {
    fn write(&self, f: &mut Formatter<'_>, would: &str) -> fmt::Result {
        writeln!(
            f,
            "values     {} {would}taken over, {} already here, {} that no mapping names ({}, written {})",
            self.taken,
            self.present,
            self.without_mapping,
            self.cache.display(),
            placement::time(self.written_at)
        )?;
        for (why, count) in &self.without_config {
            writeln!(f, "           {count} left: {why}, and run this again")?;
        }
        for id in &self.missing {
            writeln!(f, "           {id} has none: its first lookup asks the provider")?;
        }
        Ok(())
    }
}
