//! The socket: systemd's, or one of our own.

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
    /// Whether psid bound it, and its mode is psid's to set.
    pub is_own: bool,
}

/// The listening socket that systemd passed, else one bound at `path`.
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

/// Binds under a name of its own, and moves the socket into place with its mode set: nobody can
/// connect before (N14), and a socket that is in use is never unlinked.
fn bind(path: &Path, access: &Access) -> io::Result<UnixListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(named(io::Error::new(
                ErrorKind::AlreadyExists,
                "it exists and is no socket",
            )));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(named(io::Error::new(ErrorKind::AddrInUse, "another psid listens on it")));
        }
        _ => {}
    }
    if let Some(folder) = path.parent() {
        files::create_directory(folder).map_err(named)?;
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
#[expect(unsafe_code, reason = "a descriptor that systemd passed has no owner until we take it")]
fn inherited() -> io::Result<Option<UnixListener>> {
    use libsystemd::activation::{IsType, receive_descriptors};
    use std::os::fd::{FromRawFd, IntoRawFd};
    // An error is the usual case: no LISTEN_FDS, or one for another process.
    let Some(descriptor) = receive_descriptors(false).ok().and_then(|fds| fds.into_iter().next())
    else {
        return Ok(None);
    };
    if !descriptor.is_unix() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "systemd passed a descriptor that is no unix socket",
        ));
    }
    // SAFETY: receive_descriptors hands each passed descriptor out once, and nothing else uses it.
    Ok(Some(unsafe { UnixListener::from_raw_fd(descriptor.into_raw_fd()) }))
}

impl Access {
    /// Root and psid's own user need no permission of others; if more may call, the kernel lets all
    /// connect, and their credentials are judged at each call.
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

    /// N14: the Python PSI bound the socket first and changed its mode later.
    #[test]
    fn n14_the_socket_appears_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/psid.sock");
        let _private = listen(&path, &Access { uids: vec![0], gids: vec![] }).unwrap();
        assert_eq!(mode(&path), 0o600);
        let path = folder.path().join("run/open.sock");
        let _open = listen(&path, &Access { uids: vec![0, 1234], gids: vec![] }).unwrap();
        assert_eq!(mode(&path), 0o666);
        assert_eq!(fs::read_dir(folder.path().join("run")).unwrap().count(), 2);
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("psid.sock");
        let first = listen(&path, &Access::default()).unwrap();
        assert_eq!(listen(&path, &Access::default()).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        let _second = listen(&path, &Access::default()).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("psid.sock");
        fs::write(&path, "precious").unwrap();
        assert!(listen(&path, &Access::default()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
