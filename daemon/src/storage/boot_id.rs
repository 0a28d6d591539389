//! Which boot of the host this is. Its mark lies in the run directory, which is in RAM: it outlives a
//! restart of psid, as containers do, and ends with the boot, as they do too. (The kernel's own boot id is
//! in a part of /proc that the unit does not see.)

use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::path::Path;

use crate::cache::BootId;
use crate::sys::files;

/// The boot that the mark in `runtime` tells of. Without a mark, it is a new one.
pub(crate) fn of(runtime: &Path) -> BootId {
    let mark = runtime.join("boot");
    let known = match files::read_small(&mark, 64) {
        Ok(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| u64::from_str_radix(text.trim_end(), 16).ok())
            .and_then(NonZeroU64::new),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::debug!("{}: {error}", mark.display());
            None
        }
    };
    known.map_or_else(|| begin(&mark), BootId)
}

/// A mark that cannot be written is found by nobody: after a restart, nothing counts as served.
fn begin(mark: &Path) -> BootId {
    let number = getrandom::u64().ok().and_then(NonZeroU64::new).unwrap_or(NonZeroU64::MIN);
    if let Err(error) = files::replace(mark, format!("{number:016x}\n").as_bytes()) {
        tracing::debug!("{} cannot be written: {error}", mark.display());
    }
    BootId(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_ends_with_its_mark() {
        let runtime = tempfile::tempdir().unwrap();
        let mark = runtime.path().join("boot");
        let first = of(runtime.path());
        assert_eq!(of(runtime.path()), first);
        std::fs::remove_file(&mark).unwrap();
        let second = of(runtime.path());
        assert_ne!(second, first);
        for spoiled in ["", "0000000000000000\n", "no number\n"] {
            std::fs::write(&mark, spoiled).unwrap();
            let next = of(runtime.path());
            assert_ne!(next, second);
            assert_eq!(of(runtime.path()), next);
        }
        assert_ne!(of(Path::new("/nonexistent")), of(Path::new("/nonexistent")));
    }
}
