//! A record of podman's that somebody else may have written. Root reads every user's, and in a home there may be
//! anything: a FIFO, a link to a device, another's file, a lock that is never given back.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use psi_common::SecretId;
use rustix::fs::{
    CWD, FileType, FlockOperation, Mode, OFlags, RawMode, Stat, fcntl_lock, fstat, open, openat,
};
use rustix::io::Errno;
use serde_json::Value;

use super::store::STRANGE;
use crate::client::wait;

/// Where rootless podman keeps its store, unless its user says otherwise.
pub(crate) const IN_A_HOME: &str = ".local/share/containers/storage";
/// Some 100,000 secrets.
const LARGEST: u64 = 64 << 20;
/// How long a user may hold the lock of a home's store.
const IN_A_HOME_LOCKED: Duration = Duration::from_secs(5);
/// Podman itself holds it while a driver works, which may wait for psid.
const LOCKED: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Neither through a link nor waiting for whoever is at a FIFO's other end.
const DATA: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The ids of the store in a user's home; none, when podman never had a secret there. Below the home no link
/// is followed.
pub(crate) fn ids_in_home(home: &Path) -> io::Result<Option<BTreeSet<SecretId>>> {
    let Some(mut folder) = there(open(home, FOLDER, Mode::empty()))? else { return Ok(None) };
    let owner = fstat(&folder)?.st_uid;
    let secrets = Path::new(IN_A_HOME).join("secrets");
    for name in &secrets {
        folder = match openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(below) => below,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => return behind_a_link(&home.join(&secrets)),
            Err(cause) => return Err(cause.into()),
        };
    }
    ids_in(folder.as_fd(), owner, IN_A_HOME_LOCKED)
}

/// The ids of the store whose secrets are in a folder that the caller trusts; none, when there is no record.
pub(super) fn ids_in_folder(folder: &Path) -> io::Result<Option<BTreeSet<SecretId>>> {
    let Some(folder) = there(openat(CWD, folder, FOLDER, Mode::empty()))? else { return Ok(None) };
    let owner = fstat(&folder)?.st_uid;
    ids_in(folder.as_fd(), owner, LOCKED)
}

fn there(opened: Result<OwnedFd, Errno>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// A home whose `.local` is a link is no reason to complain as long as podman has nothing there.
fn behind_a_link(secrets: &Path) -> io::Result<Option<BTreeSet<SecretId>>> {
    match fs::metadata(secrets.join("secrets.json")) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("there is a link in its path")),
    }
}

fn ids_in(
    folder: BorrowedFd<'_>,
    owner: u32,
    limit: Duration,
) -> io::Result<Option<BTreeSet<SecretId>>> {
    let record = match openat(folder, "secrets.json", DATA, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => data(opened, owner, "secrets.json")?,
    };
    let lock = openat(folder, "secrets.lock", DATA, Mode::empty());
    let lock = data(lock, owner, "secrets.lock")?;
    // Podman writes the record in place.
    let _podman_waits = locked(lock, limit)?;
    let mut text = Vec::new();
    record.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other("secrets.json has more than 64 MiB"));
    }
    parse(&text).map(Some)
}

/// What was opened, if it is a file of the owner's.
fn data(opened: Result<OwnedFd, Errno>, owner: u32, name: &str) -> io::Result<File> {
    let file = opened.map_err(|cause| io::Error::other(format!("{name}: {cause}")))?;
    let stat: Stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode as RawMode) != FileType::RegularFile {
        return Err(io::Error::other(format!("{name} is no file")));
    }
    if stat.st_uid != owner {
        return Err(io::Error::other(format!("{name} is another user's than its folder")));
    }
    Ok(File::from(file))
}

/// A shared lock: no podman writes meanwhile.
fn locked(lock: File, limit: Duration) -> io::Result<File> {
    let deadline = Instant::now() + limit;
    loop {
        match fcntl_lock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(lock),
            Err(Errno::AGAIN | Errno::ACCESS) if Instant::now() < deadline => wait(LOOK),
            Err(Errno::AGAIN | Errno::ACCESS) => {
                let what = format!("secrets.lock was held for {} s", limit.as_secs());
                return Err(io::Error::other(what));
            }
            Err(Errno::INTR) => {}
            Err(cause) => return Err(cause.into()),
        }
    }
}

fn parse(text: &[u8]) -> io::Result<BTreeSet<SecretId>> {
    let record: Value = serde_json::from_slice(text)?;
    let secrets = record.get("secrets").and_then(Value::as_object);
    let secrets = secrets.ok_or_else(|| io::Error::other(STRANGE))?;
    Ok(secrets.keys().filter_map(|id| id.parse().ok()).collect())
}
