//! Descriptors that the caller of a command opened for it: `--secret-fd N`, `--config /dev/fd/N`.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::Path;

/// A duplicate of a descriptor that this process inherited.
///
/// Not by opening `/proc/self/fd/N`: that is denied for another user's pipe, and to a process that is not
/// dumpable. Must be called before the process opens descriptors of its own, which might have that number.
#[expect(
    unsafe_code,
    reason = "a descriptor that the caller names by its number has no owner here"
)]
pub(crate) fn inherited(fd: RawFd) -> io::Result<File> {
    if fd < 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the descriptor is used for this one call, which fails if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map(File::from)
}

/// The number of the descriptor that a path names.
pub(crate) fn number_in(path: &Path) -> Option<RawFd> {
    let path = path.to_str()?;
    if path == "/dev/stdin" {
        return Some(0);
    }
    let number = path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?;
    number.parse().ok().filter(|fd| *fd >= 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn inherited_pipe_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"secret").unwrap();
        drop(writer);
        let mut text = String::new();
        inherited(reader.as_raw_fd()).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "secret");
    }

    #[test]
    fn closed_descriptor_is_an_error() {
        assert!(inherited(-1).is_err());
        assert_eq!(inherited(1_000_000).unwrap_err().raw_os_error(), Some(9), "EBADF");
    }

    #[test]
    fn paths_of_descriptors_have_a_number() {
        for (path, number) in [
            ("/dev/fd/3", Some(3)),
            ("/proc/self/fd/12", Some(12)),
            ("/dev/stdin", Some(0)),
            ("/dev/fd/", None),
            ("/dev/fd/-1", None),
            ("/etc/psi/config.toml", None),
        ] {
            assert_eq!(number_in(Path::new(path)), number, "{path}");
        }
    }
}
