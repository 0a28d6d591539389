//! Podman's names of ids: hints for people, which no lookup needs.
//!
//! ```text
//! psi-names 1 ⏎ ID TAB NAME TAB STORE ⏎ ID TAB NAME TAB STORE ⏎ …
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use parking_lot::{Mutex, MutexGuard};
use psi_common::SecretId;

use crate::sys::files;

const FIRST_LINE: &str = "psi-names 1";

/// The longest name that podman takes.
const LONGEST: usize = 253;
/// Linux's PATH_MAX.
const LONGEST_PATH: usize = 4_096;

/// What is noted of an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodmanName {
    /// Podman's name.
    pub name: String,
    /// The graph root of the podman store that has it; empty where nobody reported it.
    pub store: String,
}

/// The noted names, in RAM and in one file.
pub(super) struct PodmanNames {
    path: PathBuf,
    /// None: the file could not be read so far.
    known: Mutex<Option<BTreeMap<SecretId, PodmanName>>>,
}

impl PodmanNames {
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
    pub(super) fn all(&self) -> BTreeMap<SecretId, PodmanName> {
        self.loaded().ok().and_then(|known| known.clone()).unwrap_or_default()
    }

    /// The noted name of an id.
    pub(super) fn name_of(&self, id: SecretId) -> Option<String> {
        self.loaded().ok()?.as_ref()?.get(&id).map(|noted| noted.name.clone())
    }

    /// Notes names, forgets those of other ids than `is_kept` accepts, and returns how many changed;
    /// durable when this returns.
    pub(super) fn note(
        &self,
        names: impl IntoIterator<Item = (SecretId, PodmanName)>,
        is_kept: impl Fn(SecretId) -> bool,
    ) -> io::Result<u64> {
        let mut known = self.loaded()?;
        let before = known.clone().unwrap_or_default();
        let mut after = before.clone();
        let mut changed = 0;
        for (id, noted) in names {
            let is_new = match noted.name.is_empty() {
                true => after.remove(&id).is_some(),
                false if !noted.is_valid() || !is_kept(id) => false,
                false => after.insert(id, noted.clone()) != Some(noted),
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
    fn loaded(&self) -> io::Result<MutexGuard<'_, Option<BTreeMap<SecretId, PodmanName>>>> {
        let mut known = self.known.lock();
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

impl PodmanName {
    /// Whether podman takes the name, the store can be a path, and a line can show both.
    fn is_valid(&self) -> bool {
        let is_allowed = |c: char| !c.is_control() && !"/,=".contains(c);
        let is_name = self.name.len() <= LONGEST && self.name.chars().all(is_allowed);
        let is_path = self.store.starts_with('/')
            && self.store.len() <= LONGEST_PATH
            && !self.store.contains(char::is_control);
        is_name && (self.store.is_empty() || is_path)
    }
}

fn encode(names: &BTreeMap<SecretId, PodmanName>) -> Vec<u8> {
    let lines =
        names.iter().map(|(id, PodmanName { name, store })| format!("{id}\t{name}\t{store}\n"));
    format!("{FIRST_LINE}\n{}", lines.collect::<String>()).into_bytes()
}

/// A damaged line loses one hint.
fn decode(file: &[u8]) -> BTreeMap<SecretId, PodmanName> {
    let text = String::from_utf8_lossy(file);
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return BTreeMap::new();
    }
    let pairs = lines.filter_map(|line| {
        let (id, rest) = line.split_once('\t')?;
        let (name, store) = rest.split_once('\t')?;
        let noted = PodmanName { name: name.to_owned(), store: store.to_owned() };
        Some((id.parse().ok()?, noted)).filter(|(_, noted)| !name.is_empty() && noted.is_valid())
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noted(name: &str) -> PodmanName {
        PodmanName { name: name.to_owned(), store: "/var/lib/containers/storage".to_owned() }
    }

    fn id(digit: char) -> SecretId {
        digit.to_string().repeat(25).parse().unwrap()
    }

    #[test]
    fn names_survive_a_restart_and_go_with_their_ids() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("names");
        let names = PodmanNames::open(path.clone());
        let given = [(id('a'), noted("db")), (id('b'), noted("web--KEY"))];
        assert_eq!(names.note(given.clone(), |_| true).unwrap(), 2);
        assert_eq!(names.note(given.clone(), |_| true).unwrap(), 0);
        assert_eq!(PodmanNames::open(path.clone()).all(), given.into());
        assert_eq!(names.note([(id('a'), PodmanName::default())], |_| true).unwrap(), 1);
        assert_eq!(names.note([(id('c'), noted("c"))], |id| id != self::id('b')).unwrap(), 1);
        let left = [(id('c'), noted("c"))].into();
        assert_eq!(names.all(), left);
        assert_eq!(PodmanNames::open(path).all(), left);
    }

    #[test]
    fn unreadable_file_is_not_overwritten_and_is_read_again() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("names");
        fs::create_dir(&path).unwrap();
        let names = PodmanNames::open(path.clone());
        assert!(names.all().is_empty());
        assert!(names.note([(id('a'), noted("db"))], |_| true).is_err());
        fs::remove_dir(&path).unwrap();
        fs::write(&path, format!("{FIRST_LINE}\n{}\told\t\n", id('b'))).unwrap();
        names.note([(id('a'), noted("db"))], |_| true).unwrap();
        assert_eq!(
            names.all(),
            [
                (id('a'), noted("db")),
                (id('b'), PodmanName { store: String::new(), ..noted("old") })
            ]
            .into()
        );
    }

    #[test]
    fn damaged_line_loses_one_name() {
        let file = format!(
            "{FIRST_LINE}\n{}\ta\t/s\nno line\n{}\t\x1b[2J\t/s\n{}\tc\t../s\n",
            id('a'),
            id('b'),
            id('c')
        );
        let a = PodmanName { name: "a".into(), store: "/s".into() };
        assert_eq!(decode(file.as_bytes()), [(id('a'), a)].into());
        assert!(decode(b"something else\n").is_empty());
    }

    proptest! {
        #[test]
        fn decode_never_panics(file in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&file);
            let _ = decode(&[FIRST_LINE.as_bytes(), b"\n", &file].concat());
        }
    }
}
