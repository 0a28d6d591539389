//! The listening socket: systemd's, or psid's own.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::config::Access;
use crate::sys::files;

/// A listening socket.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub socket: UnixListener,
    /// Whether psid bound it, and sets its mode.
    pub is_own: bool,
}

/// The socket that systemd passed, else one bound to `path`.
pub fn listen(path: &Path, access: &Access) -> io::Result<Listening> {
    let (socket, is_own) = match inherited()? {
        Some(socket) => (socket, false),
        None => (bind(path, access)?, true),
    };
    socket.set_nonblocking(true)?;
    Ok(Listening { socket, is_own })
}

/// The listening socket that systemd passed, for a daemon that does not start.
pub(crate) fn passed_socket() -> Option<UnixListener> {
    let socket = inherited().ok().flatten()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// Binds a temporary path, sets its mode and renames it to `path`: no client can connect before the mode is set, and a
/// socket in use is never removed.
fn bind(path: &Path, access: &Access) -> io::Result<UnixListener> {
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
    fs::set_permissions(&temporary, Permissions::from_mode(access.socket_mode()))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(named)?;
    Ok(listener)
}

/// The first socket of `LISTEN_FDS`.
#[expect(unsafe_code, reason = "from_raw_fd takes the ownership of a descriptor")]
fn inherited() -> io::Result<Option<UnixListener>> {
    use libsystemd::activation::{IsType, receive_descriptors};
    use std::os::fd::{FromRawFd, IntoRawFd};
    // Without LISTEN_FDS, or with one for another process, this is an error.
    let Some(descriptor) = receive_descriptors(false).ok().and_then(|fds| fds.into_iter().next())
    else {
        return Ok(None);
    };
    if !descriptor.is_unix() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "systemd passed a descriptor that is not a unix socket",
        ));
    }
    // SAFETY: receive_descriptors returns each passed descriptor once, and no other code uses it.
    Ok(Some(unsafe { UnixListener::from_raw_fd(descriptor.into_raw_fd()) }))
}

impl Access {
    /// The mode of the socket. With more users than root and psid's own, every user may connect, and each call is
    /// authorized by the peer credentials.
    pub fn socket_mode(&self) -> u32 {
        let own = nix::unistd::geteuid().as_raw();
        let only_us = self.gids.is_empty() && self.uids.iter().all(|uid| *uid == 0 || *uid == own);
        if only_us { 0o600 } else { 0o666 }
    }
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
        let _private = listen(&path, &Access { uids: vec![0], gids: vec![] }).unwrap();
        assert_eq!(mode(&path), 0o600);
        let path = directory.path().join("run/open.sock");
        let _open = listen(&path, &Access { uids: vec![0, 1234], gids: vec![] }).unwrap();
        assert_eq!(mode(&path), 0o666);
        assert_eq!(fs::read_dir(directory.path().join("run")).unwrap().count(), 2);
    }

    #[test]
    fn listen_replaces_a_dead_socket_and_refuses_a_live_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("psid.sock");
        let first = listen(&path, &Access::default()).unwrap();
        assert_eq!(listen(&path, &Access::default()).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        let _second = listen(&path, &Access::default()).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn listen_leaves_a_regular_file_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("psid.sock");
        fs::write(&path, "precious").unwrap();
        assert!(listen(&path, &Access::default()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
