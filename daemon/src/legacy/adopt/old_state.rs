//! Reads a state directory of the Python PSI.
//!
//! It holds `cache.enc` and one mapping for each podman id. If psid or `cache init` set that cache aside, its name is
//! `cache.enc.v1-TIME`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use psi_common::{CacheHeader, MAX_SECRET_BYTES, SecretBytes, SecretId};

use crate::legacy::is_old_cache;
use crate::legacy::mapping::{self, MappingError};
use crate::model::reference::Reference;
use crate::storage::cache_file::VERSION_1;

/// A mapping.
pub(crate) struct Mapping {
    /// Podman's id.
    pub(crate) id: SecretId,
    /// The reference in it.
    pub(crate) reference: Reference,
    /// The file's bytes.
    pub(crate) raw: SecretBytes,
}

/// The mappings of a directory, by id.
#[derive(Default)]
pub(crate) struct Mappings {
    /// The valid mappings.
    pub(crate) valid: Vec<Mapping>,
    /// The ids of other files, and their errors.
    pub(crate) invalid: Vec<(SecretId, MappingError)>,
}

/// Reads the mappings of several directories. If two have the same id, the one in the earlier directory counts. A
/// directory may be missing.
pub(crate) fn mappings(directories: &[&Path]) -> io::Result<Mappings> {
    let mut paths = BTreeMap::new();
    for directory in directories {
        for (id, path) in ids_in(directory)? {
            paths.entry(id).or_insert(path);
        }
    }
    let mut found = Mappings::default();
    for (id, path) in paths {
        match read_mapping(&path) {
            Ok((reference, raw)) => found.valid.push(Mapping { id, reference, raw }),
            Err(error) => found.invalid.push((id, error)),
        }
    }
    Ok(found)
}

fn ids_in(directory: &Path) -> io::Result<Vec<(SecretId, PathBuf)>> {
    let files = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut found = Vec::new();
    for file in files {
        let file = file?;
        // Other files are access tokens, sockets and files that were set aside.
        if let Some(id) = file.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push((id, file.path()));
        }
    }
    Ok(found)
}

fn read_mapping(path: &Path) -> Result<(Reference, SecretBytes), MappingError> {
    // A file that is not a mapping may hold a secret.
    let raw = SecretBytes::new(read(path, MAX_SECRET_BYTES)?);
    Ok((mapping::parse(raw.expose_secret())?, raw))
}

/// Whether a file is the Python PSI's cache, by its header.
pub fn is_old(path: &Path) -> io::Result<bool> {
    let mut header = [0; CacheHeader::LEN];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) => Ok(is_old_cache(&header)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The Python PSI's cache in psid's own state directory, if there is one.
pub(crate) fn cache_in_own_state(directory: &Path) -> io::Result<Option<PathBuf>> {
    let cache = directory.join("cache.enc");
    if is_old(&cache)? {
        return Ok(Some(cache));
    }
    let mut newest = None;
    for file in fs::read_dir(directory)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(&format!("cache.enc.{VERSION_1}-")) {
            newest = newest.max(Some((file.metadata()?.modified()?, file.path())));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Reads the Python PSI's `cache.enc`; `None` if there is no such file.
pub(crate) fn cache(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read(path, usize::MAX) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}

/// Reads a regular file, and keeps its access time if the kernel allows that.
fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let open = |more| open(path, flags | more, Mode::empty());
    // O_NOATIME requires the owner or root.
    let file = File::from(open(OFlag::O_NOATIME).or_else(|_| open(OFlag::empty()))?);
    let length = match file.metadata()? {
        about if about.is_file() => usize::try_from(about.len()).unwrap_or(usize::MAX),
        _ => return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
    };
    if length > limit {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has {length} bytes")));
    }
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef012345678";
    const MAPPING: &str = r#"{"provider":"infisical","project":"p","path":"/","key":"K"}"#;

    #[test]
    fn mappings_are_the_files_named_by_an_id() {
        let directory = tempfile::tempdir().unwrap();
        let (state, secrets) = (directory.path(), directory.path().join("secrets"));
        fs::create_dir(&secrets).unwrap();
        let other = "1".repeat(25);
        for (path, text) in [
            (state.join(ID), MAPPING),
            (state.join(&other), "hunter2"),
            (state.join("cache.enc"), "PSIC"),
            (state.join(".token.1.json"), MAPPING),
            (secrets.join(ID), "a later one"),
        ] {
            fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink(state.join(ID), state.join("2".repeat(25))).unwrap();
        let found = mappings(&[state, &secrets, &state.join("missing")]).unwrap();
        let ids: Vec<_> = found.valid.iter().map(|found| found.id.as_str()).collect();
        assert_eq!(ids, [ID]);
        assert_eq!(found.valid[0].raw.expose_secret(), MAPPING.as_bytes());
        let invalid: Vec<_> = found.invalid.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(invalid, [other.as_str(), &"2".repeat(25)]);
        assert!(!found.invalid[0].1.to_string().contains("hunter2"));
    }
}
