//! Atomic replacement of files, and where their file system keeps them.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::statfs::{FsType, Statfs, TMPFS_MAGIC};
use tempfile::NamedTempFile;

/// RAMFS_MAGIC of linux/magic.h, which nix lacks.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Replaces a file by one of mode 0644 and creates its directory. A reader, or a crash, sees the old file or the new one.
/// The new file is created in the same directory and so gets its SELinux label.
pub(crate) fn replace(target: &Path, text: &str) -> io::Result<()> {
    let directory = target.parent().unwrap_or(Path::new("/"));
    create_directory(directory)?;
    let file = NamedTempFile::new_in(directory)?;
    // By the file itself, whose errors do not name the temporary file.
    file.as_file().write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(target)?;
    File::open(directory)?.sync_all()
}

/// Creates a directory and those above it. Root's have mode 0755, whatever its umask: every user's podman reads those
/// of /etc/containers.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    fs::create_dir_all(directory)?;
    if nix::unistd::geteuid().is_root() {
        for path in missing {
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Whether a file system keeps its files in RAM alone.
pub(crate) fn is_in_ram(about: &Statfs) -> bool {
    [TMPFS_MAGIC, RAMFS_MAGIC].contains(&about.filesystem_type())
}
