//! A state folder of the Python PSI: read, and left as it is.
//!
//! Its mappings lie in the folder itself, each under its podman id, and `cache.enc` among them. Where psid or
//! `cache init` put that aside, it is `cache.enc.v1-TIME`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use psi_common::{CacheHeader, MAX_SECRET_BYTES, SecretBytes, SecretId};

use crate::legacy::{self, mapping};
use crate::model::reference::Reference;
use crate::storage::cache_file::VERSION_1;

/// A mapping, as its file has it.
pub(crate) struct Mapping {
    /// Podman's id.
    pub(crate) id: SecretId,
    /// What the mapping says.
    pub(crate) reference: Reference,
    /// The file's bytes.
    pub(crate) raw: SecretBytes,
}

/// The mappings of a folder, by id.
#[derive(Default)]
pub(crate) struct Mappings {
    /// Those that psi understands.
    pub(crate) understood: Vec<Mapping>,
    /// The ids of the others, and why they are no mappings.
    pub(crate) strange: Vec<(SecretId, String)>,
}

/// Reads the mappings of these folders; of two with one id, the one in the earlier folder. A folder that
/// is not there has none.
pub(crate) fn mappings(folders: &[&Path]) -> io::Result<Mappings> {
    let mut paths = BTreeMap::new();
    for folder in folders {
        for (id, path) in ids_in(folder)? {
            paths.entry(id).or_insert(path);
        }
    }
    let mut found = Mappings::default();
    for (id, path) in paths {
        match read_mapping(&path) {
            Ok((reference, raw)) => found.understood.push(Mapping { id, reference, raw }),
            Err(why) => found.strange.push((id, why)),
        }
    }
    Ok(found)
}

fn ids_in(folder: &Path) -> io::Result<Vec<(SecretId, PathBuf)>> {
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut found = Vec::new();
    for file in files {
        let file = file?;
        // Nothing else can be a secret of podman's: access tokens, sockets, what we set aside.
        if let Some(id) = file.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push((id, file.path()));
        }
    }
    Ok(found)
}

fn read_mapping(path: &Path) -> Result<(Reference, SecretBytes), String> {
    let raw = read(path, MAX_SECRET_BYTES).map_err(|error| error.to_string())?;
    let reference = mapping::parse(&raw);
    // What is no mapping may be a secret, so it is wiped too.
    let raw = SecretBytes::new(raw);
    Ok((reference?, raw))
}

/// Whether a file says that it is the Python PSI's cache.
pub fn is_old(path: &Path) -> io::Result<bool> {
    let mut header = [0; CacheHeader::LEN];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) => Ok(legacy::is_old_cache(&header)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Where the Python PSI's cache is in our own state folder; none, when there is none.
pub(crate) fn cache_among_ours(folder: &Path) -> io::Result<Option<PathBuf>> {
    let cache = folder.join("cache.enc");
    if is_old(&cache)? {
        return Ok(Some(cache));
    }
    let mut newest = None;
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(&format!("cache.enc.{VERSION_1}-")) {
            newest = newest.max(Some((file.metadata()?.modified()?, file.path())));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Reads the Python PSI's `cache.enc`; `None` when there is no such file.
pub(crate) fn cache(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read(path, usize::MAX) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}

/// Reads a regular file without leaving a trace, as far as the kernel allows.
fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let open = |more| open(path, flags | more, Mode::empty());
    // Whoever is not the owner may not keep the time of the last access as it is.
    let file = File::from(open(OFlag::O_NOATIME).or_else(|_| open(OFlag::empty()))?);
    let length = match file.metadata()? {
        about if about.is_file() => usize::try_from(about.len()).unwrap_or(usize::MAX),
        _ => return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
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
    fn only_what_podman_can_name_is_a_mapping() {
        let folder = tempfile::tempdir().unwrap();
        let (state, secrets) = (folder.path(), folder.path().join("secrets"));
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
        let ids: Vec<_> = found.understood.iter().map(|found| found.id.as_str()).collect();
        assert_eq!(ids, [ID]);
        assert_eq!(found.understood[0].raw.expose_secret(), MAPPING.as_bytes());
        let strange: Vec<_> = found.strange.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(strange, [other.as_str(), &"2".repeat(25)]);
        assert!(!found.strange[0].1.contains("hunter2"));
    }
}
