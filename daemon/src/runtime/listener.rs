//! The listening socket: systemd's, or psid's own.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use psi_common::Problem;

use crate::sys::files;

/// The mode of the admin's socket.
const MODE: u32 = 0o600;

/// The listening sockets.
#[derive(Debug)]
pub struct Listening {
    /// Root's and psid's own user's.
    pub admin: UnixListener,
    /// That of the users that workloads name, if systemd passed it.
    pub users: Option<UnixListener>,
}

/// The sockets that systemd passed by name; without them, the admin's, bound to `path`.
pub fn listen(path: &Path) -> Result<Listening, Problem> {
    let Passed { admin, users } = inherited()?;
    let admin = match admin {
        Some(admin) => admin,
        None => bind(path).map_err(|error| {
            let remedy = "stop the process that uses it, or set PSI_SOCKET";
            Problem::new(format!("the socket: {error}"), remedy)
        })?,
    };
    for socket in std::iter::once(&admin).chain(&users) {
        socket.set_nonblocking(true).map_err(|error| unusable(&error.to_string()))?;
    }
    Ok(Listening { admin, users })
}

/// The listening sockets that systemd passed, for a daemon that does not start: the admin's, the users'.
pub(crate) fn passed_sockets() -> (Option<UnixListener>, Option<UnixListener>) {
    let Passed { admin, users } = inherited().unwrap_or_default();
    let usable =
        |socket: Option<UnixListener>| socket.filter(|socket| socket.set_nonblocking(true).is_ok());
    (usable(admin), usable(users))
}

/// Binds a temporary path, sets its mode and renames it to `path`: no client can connect before the mode is set, and a
/// socket in use is never removed.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(named(io::Error::new(
                ErrorKind::AlreadyExists,
                "it exists and is not a socket",
            )));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(named(io::Error::new(ErrorKind::AddrInUse, "another psid listens on it")));
        }
        _ => {}
    }
    if let Some(directory) = path.parent() {
        files::create_directory(directory).map_err(named)?;
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let _ = fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary).map_err(named)?;
    fs::set_permissions(&temporary, Permissions::from_mode(MODE))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(named)?;
    Ok(listener)
}

/// The sockets that systemd passed.
#[derive(Default)]
struct Passed {
    admin: Option<UnixListener>,
    users: Option<UnixListener>,
}

/// The name of the admin's descriptor, and that of a psid.socket without FileDescriptorName=.
const ADMIN: [&str; 2] = ["admin", "psid.socket"];
/// The name of the users' descriptor.
const USERS: &str = "users";

/// The sockets of `LISTEN_FDS`, by their names in `LISTEN_FDNAMES`.
#[expect(unsafe_code, reason = "from_raw_fd takes the ownership of a descriptor")]
fn inherited() -> Result<Passed, Problem> {
    use libsystemd::activation::{
        IsType, receive_descriptors, receive_descriptors_with_names as receive_with_names,
    };
    use std::os::fd::{FromRawFd, IntoRawFd};
    let mut passed = Passed::default();
    // Without LISTEN_FDS, or with one for another process, there is none.
    let mut named = receive_with_names(false).unwrap_or_default();
    if named.is_empty() {
        // Podman passes sockets on without their names.
        let unnamed = receive_descriptors(false).unwrap_or_default().into_iter();
        named = unnamed.map(|descriptor| (descriptor, String::new())).collect();
    }
    for (descriptor, name) in named {
        if !descriptor.is_unix() {
            return Err(unusable("it is not a unix socket"));
        }
        // SAFETY: receive_descriptors returns each passed descriptor once, and no other code uses it.
        let socket = unsafe { UnixListener::from_raw_fd(descriptor.into_raw_fd()) };
        let place = match name.as_str() {
            "" if is_users(&socket) => &mut passed.users,
            "" => &mut passed.admin,
            USERS => &mut passed.users,
            name if ADMIN.contains(&name) => &mut passed.admin,
            _ => {
                let shown: String = name.escape_debug().collect();
                return Err(unusable(&format!("it is named {shown}, which psid does not know")));
            }
        };
        if place.replace(socket).is_some() {
            return Err(unusable(&format!("there are two named {name}")));
        }
    }
    Ok(passed)
}

/// Whether a socket without a name is the users', by its path.
fn is_users(socket: &UnixListener) -> bool {
    let address = socket.local_addr().ok();
    let path = address.as_ref().and_then(|address| address.as_pathname());
    path.and_then(Path::file_name).is_some_and(|name| name == "users.sock")
}

fn unusable(why: &str) -> Problem {
    Problem::new(
        format!("systemd passed a descriptor that is not usable: {why}"),
        "see `systemctl cat psid.socket psid-users.socket`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// N14: version 1 bound the socket first and changed its mode later.
    #[test]
    fn listen_creates_the_socket_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/psid.sock");
        let listening = listen(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(listening.users.is_none());
        assert_eq!(fs::read_dir(directory.path().join("run")).unwrap().count(), 1);
    }

    #[test]
    fn listen_replaces_a_dead_socket_and_refuses_a_live_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("psid.sock");
        let first = listen(&path).unwrap();
        let error = listen(&path).unwrap_err().to_string();
        assert!(error.contains("another psid listens on it"), "{error}");
        drop(first);
        let _second = listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn listen_leaves_a_regular_file_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("psid.sock");
        fs::write(&path, "precious").unwrap();
        assert!(listen(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
