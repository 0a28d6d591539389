//! What `psid migrate` tells: for people, and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::path::PathBuf;

use psi_common::SecretId;
use serde_json::json;

use crate::legacy::adopt::values::{self, SEALED};
use crate::model::clock::Timestamp;

/// What was taken over, or would be.
#[derive(Default)]
pub(crate) struct MigrationReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The old state folder, or one cache file.
    pub from: PathBuf,
    /// The ids whose mappings were taken over.
    pub taken: Vec<SecretId>,
    /// The ids that are registered here for the same.
    pub present: Vec<SecretId>,
    /// The ids that are registered here for something else, which stays.
    pub conflicting: Vec<SecretId>,
    /// The ids whose files are no mappings, and why.
    pub strange: Vec<(SecretId, String)>,
    /// By provider.
    pub providers: BTreeMap<String, ProviderTotals>,
    /// What became of the cache; none: there was none.
    pub values: Option<Result<MigratedValues, String>>,
}

/// Of one provider.
#[derive(Clone, Copy, Default)]
pub(crate) struct ProviderTotals {
    /// Mappings that psi understands.
    pub mappings: usize,
    /// MigratedValues that were taken over.
    pub values: usize,
}

/// What became of the entries of an old cache.
#[derive(Default)]
pub(crate) struct MigratedValues {
    /// The file.
    pub cache: PathBuf,
    /// When the Python PSI wrote it.
    pub written_at: Timestamp,
    /// Those that our cache has now.
    pub taken: usize,
    /// Those of which our cache has one that is as new or newer.
    pub present: usize,
    /// Those that no mapping names.
    pub unclaimed: usize,
    /// Those that are sealed in their mappings.
    pub sealed: usize,
    /// Those that lead nowhere under this config, by the cause.
    pub homeless: BTreeMap<String, usize>,
    /// The ids whose value our cache has not.
    pub missing: Vec<SecretId>,
}

impl MigrationReport {
    /// As JSON.
    pub(crate) fn to_json(&self) -> String {
        let ids = |ids: &[SecretId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let strange = |(id, why): &(SecretId, String)| json!({"id": id.to_string(), "why": why});
        let providers: BTreeMap<_, _> = self
            .providers
            .iter()
            .map(|(name, of)| (name, json!({"mappings": of.mappings, "values": of.values})))
            .collect();
        let values = match &self.values {
            None => json!(null),
            Some(Err(error)) => json!({"error": error}),
            Some(Ok(values)) => json!({
                "cache": values.cache.to_string_lossy(),
                "written_at_ms": values.written_at.as_millis(),
                "taken": values.taken,
                "already_here": values.present,
                "without_mapping": values.unclaimed,
                "sealed_in_mapping": values.sealed,
                "without_config": values.homeless,
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
                "not_understood": self.strange.iter().map(strange).collect::<Vec<_>>(),
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
            self.strange.len()
        )?;
        for id in &self.conflicting {
            writeln!(f, "           {id} is registered here for something else, which stays")?;
        }
        for (id, why) in &self.strange {
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
            self.unclaimed,
            self.cache.display(),
            values::time(self.written_at)
        )?;
        for (why, count) in &self.homeless {
            writeln!(f, "           {count} left: {why}, and run this again")?;
        }
        for id in &self.missing {
            writeln!(f, "           {id} has none: its first lookup asks the provider")?;
        }
        Ok(())
    }
}
