//! Podman's names of ids: hints for people, which no lookup needs.
//!
//! ```text
//! psi-names 1 ⏎ ID NAME ⏎ ID NAME ⏎ …
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use psi_common::SecretId;

use crate::files;

const FIRST_LINE: &str = "psi-names 1";

/// The longest name that podman takes.
const LONGEST: usize = 253;

/// The noted names, in RAM and in one file.
pub(super) struct Names {
    path: PathBuf,
    /// None: the file could not be read so far.
    known: Mutex<Option<BTreeMap<SecretId, String>>>,
}

impl Names {
    /// The names that the file at `path` holds.
    pub(super) fn open(path: PathBuf) -> Self {
        let names = Self { path, known: Mutex::default() };
        if let Err(error) = names.loaded().map(drop) {
            tracing::warn!(
                "{}: {error}; secrets are shown without their names",
                names.path.display()
            );
        }
        names
    }

    /// The noted names; none while the file cannot be read.
    pub(super) fn all(&self) -> BTreeMap<SecretId, String> {
        self.loaded().ok().and_then(|known| known.clone()).unwrap_or_default()
    }

    /// Notes names, forgets those of other ids than `is_kept` accepts, and returns how many changed;
    /// durable when this returns.
    pub(super) fn note(
        &self,
        names: impl IntoIterator<Item = (SecretId, String)>,
        is_kept: impl Fn(SecretId) -> bool,
    ) -> io::Result<u64> {
        let mut known = self.loaded()?;
        let before = known.clone().unwrap_or_default();
        let mut after = before.clone();
        let mut changed = 0;
        for (id, name) in names {
            let is_new = match name.is_empty() {
                true => after.remove(&id).is_some(),
                false if !is_name(&name) || !is_kept(id) => false,
                false => after.insert(id, name.clone()) != Some(name),
            };
            changed += u64::from(is_new);
        }
        after.retain(|id, _| is_kept(*id));
        if after != before {
            files::replace(&self.path, &encode(&after))?;
            *known = Some(after);
        }
        Ok(changed)
    }

    /// A file that could not be read is read again; it is not overwritten before.
    fn loaded(&self) -> io::Result<MutexGuard<'_, Option<BTreeMap<SecretId, String>>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(match fs::read(&self.path) {
                Ok(file) => decode(&file),
                Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
                Err(error) => return Err(error),
            });
        }
        Ok(known)
    }
}

/// Whether it is a name that podman takes and a line can show.
fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| !c.is_control() && !"/,=".contains(c);
    name.len() <= LONGEST && name.chars().all(is_allowed)
}

fn encode(names: &BTreeMap<SecretId, String>) -> Vec<u8> {
    let lines = names.iter().map(|(id, name)| format!("{id} {name}\n"));
    format!("{FIRST_LINE}\n{}", lines.collect::<String>()).into_bytes()
}

/// A damaged line loses one hint.
fn decode(file: &[u8]) -> BTreeMap<SecretId, String> {
    let text = String::from_utf8_lossy(file);
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return BTreeMap::new();
    }
    let pairs = lines.filter_map(|line| {
        let (id, name) = line.split_once(' ')?;
        Some((id.parse().ok()?, name.to_owned())).filter(|_| !name.is_empty() && is_name(name))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(digit: char) -> SecretId {
        digit.to_string().repeat(25).parse().unwrap()
    }

    #[test]
    fn names_survive_a_restart_and_go_with_their_ids() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("names");
        let names = Names::open(path.clone());
        let given = [(id('a'), "db".to_owned()), (id('b'), "web--KEY".to_owned())];
        assert_eq!(names.note(given.clone(), |_| true).unwrap(), 2);
        assert_eq!(names.note(given.clone(), |_| true).unwrap(), 0);
        assert_eq!(Names::open(path.clone()).all(), given.into());
        assert_eq!(names.note([(id('a'), String::new())], |_| true).unwrap(), 1);
        assert_eq!(names.note([(id('c'), "c".to_owned())], |id| id != self::id('b')).unwrap(), 1);
        let left = [(id('c'), "c".to_owned())].into();
        assert_eq!(names.all(), left);
        assert_eq!(Names::open(path).all(), left);
    }

    #[test]
    fn an_unreadable_file_is_not_overwritten_and_read_once_it_can_be() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("names");
        fs::create_dir(&path).unwrap();
        let names = Names::open(path.clone());
        assert!(names.all().is_empty());
        assert!(names.note([(id('a'), "db".to_owned())], |_| true).is_err());
        fs::remove_dir(&path).unwrap();
        fs::write(&path, format!("{FIRST_LINE}\n{} old\n", id('b'))).unwrap();
        names.note([(id('a'), "db".to_owned())], |_| true).unwrap();
        assert_eq!(names.all(), [(id('a'), "db".to_owned()), (id('b'), "old".to_owned())].into());
    }

    #[test]
    fn a_damaged_line_loses_one_name() {
        let file =
            format!("{FIRST_LINE}\n{} a\nno line\n{} \x1b[2J\n{} c\n", id('a'), id('b'), id('c'));
        assert_eq!(decode(file.as_bytes()), [(id('a'), "a".into()), (id('c'), "c".into())].into());
        assert!(decode(b"something else\n").is_empty());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(file in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&file);
            let _ = decode(&[FIRST_LINE.as_bytes(), b"\n", &file].concat());
        }
    }
}
