//! Reading files that another user may have put in place.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

/// Reads a regular file of at most `max` bytes, but not through a symbolic link; never waits for a FIFO.
pub(crate) fn read_small(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_regular(path, max, OFlag::O_NOFOLLOW)
}

/// Reads a regular file of at most `max` bytes, also through a symbolic link; never waits for a FIFO.
pub(crate) fn read_following_links(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_regular(path, max, OFlag::empty())
}

fn read_regular(path: &Path, max: u64, flags: OFlag) -> io::Result<Vec<u8>> {
    let flags = flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(openat(AT_FDCWD, path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
