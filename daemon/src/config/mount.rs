//! `mount` of a workload: the keys that become files, and who may read them.

use std::collections::BTreeMap;
use std::fmt;

use psi_common::check::{self, InvalidText};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::fault::Fault;
use crate::provider::upstream::{Mount, WorkloadSource};

/// The directory of files whose target is not absolute (podman-run(1)).
const DIRECTORY: &str = "/run/secrets";

/// A key, or a table.
pub(super) struct RawMount(RawFile);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    key: String,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<RawMode>,
    target: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a mode must be a text of octal digits, like \"0400\"")]
enum RawMode {
    Number(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for RawMount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MountVisitor)
    }
}

/// Keeps the message of a table's unknown key, which an untagged enum would not.
struct MountVisitor;

impl<'de> Visitor<'de> for MountVisitor {
    type Value = RawMount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key, or a table with key, uid, gid, mode and target")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<RawMount, E> {
        let key = key.to_owned();
        Ok(RawMount(RawFile { key, uid: None, gid: None, mode: None, target: None }))
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<RawMount, A::Error> {
        RawFile::deserialize(MapAccessDeserializer::new(table)).map(RawMount)
    }
}

/// Checks the entries of a workload with these sources.
pub(super) fn check(
    workload: &str,
    entries: Vec<Spanned<RawMount>>,
    sources: &[WorkloadSource],
) -> Result<Vec<Mount>, Fault> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut files = BTreeMap::new();
    for entry in entries {
        let at = Some(entry.span().start);
        let fault = |why| Fault { at, what: format!("workload '{workload}': mount: {why}") };
        let mount = entry.into_inner().check().map_err(fault)?;
        check_key(&mount.key, sources).map_err(fault)?;
        if mounts.contains(&mount) {
            continue;
        }
        if mounts.iter().any(|other| other.key == mount.key) {
            return Err(fault(format!(
                "'{}' is there twice, with other members",
                check::excerpt(&mount.key)
            )));
        }
        if let Some(other) = files.insert(path_of(&mount), mount.key.clone()) {
            let [other, key] = [&other, &mount.key].map(|key| check::excerpt(key));
            return Err(fault(format!(
                "'{other}' and '{key}' are one file; give one another target"
            )));
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

/// Checks that a source may have a key which is no variable.
fn check_key(key: &str, sources: &[WorkloadSource]) -> Result<(), String> {
    let shown = check::excerpt(key);
    let selected = || sources.iter().filter_map(|source| source.selected.as_ref());
    if selected().any(|selected| selected.get(key).is_some_and(|of| of != key)) {
        return Err(format!(
            "'{shown}' is a variable of env; for a file, add its key to keys, and that to mount"
        ));
    }
    let is_whole = sources.is_empty() || sources.iter().any(|source| source.selected.is_none());
    if is_whole || selected().any(|selected| selected.contains_key(key)) {
        return Ok(());
    }
    Err(format!("no source has '{shown}': keys and env of each select others; add it to keys"))
}

/// The file in the container, without dot segments.
fn path_of(mount: &Mount) -> String {
    let target = mount.target.as_deref().unwrap_or(&mount.key);
    let whole =
        if target.starts_with('/') { target.to_owned() } else { format!("{DIRECTORY}/{target}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

impl RawMount {
    fn check(self) -> Result<Mount, String> {
        let RawFile { key, uid, gid, mode, target } = self.0;
        let text = |error: InvalidText| error.to_string();
        check::key(&key).map_err(text)?;
        [uid, gid].into_iter().flatten().try_for_each(check::mount_owner).map_err(text)?;
        if let Some(target) = &target {
            check::mount_target(target).map_err(text)?;
        }
        let mode = mode.map(RawMode::check).transpose()?;
        Ok(Mount { key, uid, gid, mode, target })
    }
}

impl RawMode {
    fn check(self) -> Result<u32, String> {
        let text = match self {
            Self::Text(text) => text,
            // 400 is 0620.
            Self::Number(number) => {
                return Err(format!(
                    "mode = {number} is a number, which is easily another mode than its digits; write the octal digits \
                     as a text, like \"0400\""
                ));
            }
        };
        let is_octal =
            (1..=8).contains(&text.len()) && text.bytes().all(|c| (b'0'..=b'7').contains(&c));
        let mode = u32::from_str_radix(&text, 8).ok().filter(|_| is_octal);
        let mode = mode.ok_or_else(|| {
            format!("the mode '{}' is not octal digits, like \"0400\"", check::excerpt(&text))
        })?;
        check::mount_mode(mode).map_err(|error| error.to_string())?;
        Ok(mode)
    }
}
