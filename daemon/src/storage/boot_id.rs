//! The id of the present boot, in a file of the run directory. That is in memory, so the id survives a restart of
//! psid and ends with the boot, as containers do. (The kernel's own boot id is in a part of /proc that the unit
//! cannot see.)

use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::path::Path;

use crate::cache::BootId;
use crate::sys::files;

/// The boot id in the run directory `run`; a new one if there is none.
pub(crate) fn read_or_create(run: &Path) -> BootId {
    let path = run.join("boot");
    let known = match files::read_small(&path, 64) {
        Ok(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| u64::from_str_radix(text.trim_end(), 16).ok())
            .and_then(NonZeroU64::new),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::debug!("{}: {error}", path.display());
            None
        }
    };
    known.map_or_else(|| create(&path), BootId)
}

/// Creates the id. If it cannot be written, no value counts as served after a restart of psid.
fn create(path: &Path) -> BootId {
    let number = getrandom::u64().ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MIN);
    if let Err(error) = files::replace(path, format!("{number:016x}\n").as_bytes()) {
        tracing::debug!("{} cannot be written: {error}", path.display());
    }
    BootId(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_id_lasts_as_long_as_its_file() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("boot");
        let first = read_or_create(run.path());
        assert_eq!(read_or_create(run.path()), first);
        std::fs::remove_file(&path).unwrap();
        let second = read_or_create(run.path());
        assert_ne!(second, first);
        for malformed in ["", "0000000000000000\n", "no number\n"] {
            std::fs::write(&path, malformed).unwrap();
            let next = read_or_create(run.path());
            assert_ne!(next, second);
            assert_eq!(read_or_create(run.path()), next);
        }
        assert_ne!(
            read_or_create(Path::new("/nonexistent")),
            read_or_create(Path::new("/nonexistent"))
        );
    }
}
