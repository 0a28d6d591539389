//! Durable files: a reader or a crash sees the old file or the new one, never neither.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use psi_common::{Paths, SecretId};
use rustix::fs::{
    CWD, FallocateFlags, FlockOperation, Mode, OFlags, RenameFlags, fallocate, flock, openat,
    renameat_with,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::sys::reach::reach;

/// How the name of a file ends that is not whole yet; it begins with a dot.
const TEMPORARY: &str = ".tmp";

/// Replaces a file: a temporary file beside it, created 0600, fsync, rename, fsync of the folder.
///
/// One writer a file: the temporary name is fixed, so that a crash leaves one remnant, not many.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, bytes, None, folder_of(path))
}

/// Likewise, and the file belongs to the owner of another folder than its own.
pub(crate) fn replace_for_owner_of(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, bytes, None, folder)
}

/// Likewise, and the new file is as old as `time` says.
pub(crate) fn replace_of_time(path: &Path, bytes: &[u8], time: SystemTime) -> io::Result<()> {
    replace_with(path, bytes, Some(time), folder_of(path))
}

/// Replaces a file of somebody else's by one with the same owner and mode.
pub(crate) fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Not the link that it may be reached by.
    let path = fs::canonicalize(path)?;
    let about = fs::metadata(&path)?;
    let temporary = temporary(&path);
    let written = write_new(&temporary, bytes, None, folder_of(&path)).and_then(|()| {
        if geteuid().is_root() {
            std::os::unix::fs::chown(&temporary, Some(about.uid()), Some(about.gid()))?;
        }
        fs::set_permissions(&temporary, fs::Permissions::from_mode(about.mode() & 0o7777))?;
        fs::rename(&temporary, &path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder_of(&path)
}

fn replace_with(
    path: &Path,
    bytes: &[u8],
    time: Option<SystemTime>,
    owners: &Path,
) -> io::Result<()> {
    reach(path, |path| {
        let temporary = temporary(path);
        let written =
            write_new(&temporary, bytes, time, owners).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // A full disk needs its room back; the error that counts is the first one.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        sync_folder_of(path)
    })
}

/// Reads a regular file of at most `max` bytes. In the directory of another user, root neither follows a
/// link nor waits for a FIFO.
pub(crate) fn read_small(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_regular(path, max, OFlags::NOFOLLOW)
}

/// Reads a regular file of at most `max` bytes, which a link may lead to; waits for no FIFO.
pub(crate) fn read_linked(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_regular(path, max, OFlags::empty())
}

fn read_regular(path: &Path, max: u64, flags: OFlags) -> io::Result<Vec<u8>> {
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty())?);
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

/// Moves a file in its folder, durably, in the place of another one.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    reach(from, |from| reach(to, |to| fs::rename(from, to)))?;
    sync_folder_of(to)
}

/// Moves a file, durably; never over another one.
pub(crate) fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    reach(from, |from| {
        reach(to, |to| Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?))
    })?;
    sync_folder_of(to)?;
    sync_folder_of(from)
}

/// Gives a file that is about to be replaced a second name, `NAME.old-TIME` by the time it was written,
/// and tells it; nothing when there is no file.
pub(crate) fn keep_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    keep_as(path, "old")
}

/// Likewise as `NAME.WHAT-TIME`.
pub(crate) fn keep_as(path: &Path, what: &str) -> io::Result<Option<PathBuf>> {
    let written = match fs::metadata(path) {
        Ok(file) => file.modified()?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let time = written.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    under_a_free_name(path, what, time, |aside| {
        reach(path, |path| reach(aside, |aside| fs::hard_link(path, aside)))
    })
    .map(Some)
}

/// Puts a file out of the way as `NAME.WHAT-TIME` and tells the new path; never over another one.
pub(crate) fn rename_as(path: &Path, what: &str, time: u64) -> io::Result<PathBuf> {
    under_a_free_name(path, what, time, |aside| rename_to_free(path, aside))
}

fn under_a_free_name(
    path: &Path,
    what: &str,
    time: u64,
    place: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for attempt in 0..100 {
        let suffix = if attempt == 0 { String::new() } else { format!(".{attempt}") };
        let aside = path.with_file_name(format!("{name}.{what}-{time}{suffix}"));
        match place(&aside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => return result.map(|()| aside),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Puts new files into a folder, which need not be there yet, and never one over another; all of them are
/// durable when this returns. A folder that was not there has all of them or is not there, whenever this
/// is interrupted.
pub(crate) fn add_all<'a>(
    folder: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])> + Clone,
) -> io::Result<()> {
    reach(folder, |folder| {
        let staged = temporary(folder);
        remove_folder(&staged)?;
        let added =
            stage(&staged, files.clone()).and_then(|()| move_staged(&staged, folder, files));
        let removed = remove_folder(&staged);
        added.and(removed)
    })
}

fn move_staged<'a>(
    staged: &Path,
    folder: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> io::Result<()> {
    match renameat_with(CWD, staged, CWD, folder, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => {}
        renamed => {
            renamed?;
            return sync_folder_of(folder);
        }
    }
    let into = open_folder(folder)?;
    for (name, _) in files {
        renameat_with(CWD, staged.join(name), &into, name, RenameFlags::NOREPLACE)?;
    }
    into.sync_all()
}

/// A folder that is none by a link.
fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::DIRECTORY;
    Ok(File::from(openat(CWD, path, flags, Mode::empty())?))
}

fn stage<'a>(
    folder: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    // Root does this in a folder of another user's, who may put a link in the place of what was made just now.
    let no_link = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = open_folder(folder)?;
    if handle.metadata()?.uid() != geteuid().as_raw() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    give_to_owner_of(folder_of(folder), &handle)?;
    for (name, bytes) in files {
        let new = no_link | OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let mut file = File::from(openat(&handle, name, new, Mode::RUSR | Mode::WUSR)?);
        give_to_owner_of(folder_of(folder), &file)?;
        file.write_all(bytes)?;
    }
    // Once for hundreds of files: one fsync for each takes a disk seconds.
    Ok(rustix::fs::syncfs(&handle)?)
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The ids that name files of a folder, sorted. A folder that is not there has none.
pub(crate) fn ids_in(folder: &Path) -> io::Result<Vec<SecretId>> {
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut ids = Vec::new();
    for file in files {
        ids.extend(file?.file_name().to_str().and_then(|name| name.parse::<SecretId>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Finds out whether a file of `room` bytes could be written into a folder now, and leaves none.
pub(crate) fn try_to_write(folder: &Path, room: usize) -> io::Result<()> {
    let path = folder.join(format!(".room{TEMPORARY}"));
    let written = write_room(&path, room);
    let removed = fs::remove_file(&path);
    written.and(removed)
}

fn write_room(path: &Path, room: usize) -> io::Result<()> {
    let mut file = create_new(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, room as u64) {
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => file.write_all(&vec![0; room])?,
        reserved => reserved?,
    }
    file.sync_all()
}

/// What happened to a file or folder, and what helps: by the error alone, for a passing one passes.
pub(crate) fn told(path: &Path, error: &io::Error) -> String {
    let at = path.display();
    let remedy = match Errno::from_io_error(error) {
        Some(Errno::ACCESS | Errno::PERM) => {
            format!("`chown -hR --reference={} {at}`", folder_of(path).display())
        }
        Some(Errno::MFILE | Errno::NFILE) => "raise LimitNOFILE= of psid's unit".into(),
        Some(Errno::NOMEM) => "free memory".into(),
        Some(Errno::NOSPC | Errno::DQUOT) => "free space on its file system".into(),
        Some(Errno::ROFS) => "mount its file system read-write".into(),
        Some(Errno::ISDIR) => "move that directory away".into(),
        Some(Errno::NOTDIR) => "move away what is there in place of a directory".into(),
        _ => "`journalctl -k` shows what the kernel says of the disk".into(),
    };
    format!("{at}: {error}; {remedy}")
}

/// Makes a folder with mode 0700, and its parents; durable, as what is put into it will be.
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    make_durable_folder(path, fs::DirBuilder::new().mode(0o700))
}

/// Makes a folder that others may look into, and its parents.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    make_durable_folder(path, &fs::DirBuilder::new())?;
    // Whatever the umask says: who may call must get to the socket.
    open_folder(path)?.set_permissions(fs::Permissions::from_mode(0o755))
}

/// Makes the run directory with mode 0700. What root's commands make there is psid's: it belongs to the owner
/// of the state, as the service manager has it.
pub(crate) fn make_run_directory(paths: &Paths) -> io::Result<()> {
    if paths.run.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().mode(0o700).recursive(true).create(&paths.run)?;
    if paths.state.is_dir() {
        give_to_owner_of(&paths.state, &File::open(&paths.run)?)?;
    }
    Ok(())
}

/// A folder that is there already may be so only since a try that did not get to its fsync.
fn make_durable_folder(path: &Path, builder: &fs::DirBuilder) -> io::Result<()> {
    let missing = path.ancestors().take_while(|folder| !folder.is_dir());
    let missing: Vec<_> = missing.filter(|folder| !folder.as_os_str().is_empty()).collect();
    for folder in missing.iter().rev() {
        match reach(folder, |folder| builder.create(folder)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made?,
        }
    }
    for made in missing.iter().rev() {
        give_folder_to_owner_of(folder_of(made), made)?;
    }
    sync_folder_of(path)?;
    missing.into_iter().skip(1).try_for_each(sync_folder_of)
}

/// Removes what writes left in a folder, and in those below it, that did not come to their end. Only for
/// who holds its lock: another writer's file is at work.
pub(crate) fn remove_remnants(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_remnant = name.as_encoded_bytes().starts_with(b".")
            && name.as_encoded_bytes().ends_with(TEMPORARY.as_bytes());
        if is_remnant {
            // One that stays is in nobody's way: the next write of that file replaces it.
            let _ = fs::remove_file(entry.path()).or_else(|_| remove_folder(&entry.path()));
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_remnants(&entry.path());
        }
    }
}

/// Locks a folder for this process, as long as the handle lives.
pub(crate) fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(path)?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    Ok(folder)
}

/// Makes a removal or a rename in the file's folder durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        // Of a bare name.
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent.unwrap_or(Path::new("/")),
    }
}

fn write_new(path: &Path, bytes: &[u8], time: Option<SystemTime>, owners: &Path) -> io::Result<()> {
    let mut file = create_new(path)?;
    give_to_owner_of(owners, &file)?;
    file.write_all(bytes)?;
    time.map_or(Ok(()), |time| file.set_modified(time))?;
    file.sync_all()
}

/// A new file in the place of a remnant.
fn create_new(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(path),
    }
}

/// Likewise a folder that was made just now. Its parent may be another user's, who may have put something
/// else in its place.
fn give_folder_to_owner_of(parent: &Path, folder: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let handle = File::from(openat(CWD, folder, flags, Mode::empty())?);
    if handle.metadata()?.uid() != 0 {
        return Ok(());
    }
    give_to_owner_of(parent, &handle)
}

/// What root provisions, a psid of another user must read: a new file belongs to a folder's owner.
fn give_to_owner_of(folder: &Path, file: &File) -> io::Result<()> {
    let folder = fs::metadata(folder)?;
    if geteuid().is_root() && folder.uid() != 0 {
        std::os::unix::fs::fchown(file, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(TEMPORARY);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(folder.path().join(".file.tmp"), "left by a crash").unwrap();
        for text in ["one", "two"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_set_aside_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.enc");
        let mut seen = Vec::new();
        for text in ["a", "b", "c"] {
            fs::write(&path, text).unwrap();
            let aside = rename_as(&path, "bad", 5).unwrap();
            seen.push(aside.file_name().unwrap().to_string_lossy().into_owned());
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
        }
        assert_eq!(seen, ["cache.enc.bad-5", "cache.enc.bad-5.1", "cache.enc.bad-5.2"]);
    }

    #[test]
    fn only_remnants_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        make_private_folder(&below).unwrap();
        for name in [".a.tmp", "a.tmp", ".a", "below/.b.tmp", "below/b"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join(".secrets.tmp")).unwrap();
        fs::write(folder.path().join(".secrets.tmp/a"), "x").unwrap();
        remove_remnants(folder.path());
        let left = |path: &Path| fs::read_dir(path).unwrap().count();
        assert_eq!((left(folder.path()), left(&below)), (3, 1));
    }

    #[test]
    fn many_files_are_added_and_none_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("secrets");
        fs::create_dir(parent.path().join(".secrets.tmp")).unwrap();
        fs::write(parent.path().join(".secrets.tmp/a"), "left by a crash").unwrap();
        add_all(&folder, [("a", b"1".as_slice()), ("b", b"2")]).unwrap();
        add_all(&folder, [("c", b"3".as_slice())]).unwrap();
        let error = add_all(&folder, [("c", b"4".as_slice())]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        for (name, text) in [("a", "1"), ("b", "2"), ("c", "3")] {
            let path = folder.join(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_run_directory_is_private_and_belongs_to_the_owner_of_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Paths::new(psi_common::Scope::System);
        paths.state = folder.path().join("state");
        paths.run = folder.path().join("psid");
        fs::create_dir(&paths.state).unwrap();
        let owner = if geteuid().is_root() { 1234 } else { geteuid().as_raw() };
        std::os::unix::fs::chown(&paths.state, Some(owner), None).unwrap();
        make_run_directory(&paths).unwrap();
        let about = fs::metadata(&paths.run).unwrap();
        assert_eq!((about.permissions().mode() & 0o777, about.uid()), (0o700, owner));
        let file = paths.run.join("boot");
        replace(&file, b"1").unwrap();
        let about = fs::metadata(&file).unwrap();
        assert_eq!((about.permissions().mode() & 0o777, about.uid()), (0o600, owner));
    }

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock_folder(folder.path()).unwrap();
        assert!(lock_folder(folder.path()).is_err());
        drop(held);
        lock_folder(folder.path()).unwrap();
    }
}
