//! Who can come as far as the socket, and into the folders.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use psi_common::Finding;

use crate::config::Access;

/// Compares the socket's mode with who may call.
pub(super) fn judge(access: &Access, path: &Path) -> Vec<Finding> {
    let shown = path.display();
    // A daemon that is down is told by its caller.
    let Ok(meta) = fs::symlink_metadata(path) else { return Vec::new() };
    if !meta.file_type().is_socket() {
        return vec![Finding::error(format!("{shown} is no socket"), "remove it, and start psid")];
    }
    let mut findings = Vec::new();
    let (found, wanted) = (meta.permissions().mode() & 0o777, access.socket_mode());
    if wanted == 0o600 && found & 0o077 != 0 {
        findings.push(Finding::warning(
            format!("others than root may connect to {shown} (mode {found:o}), and [access] lets nobody else call"),
            "set SocketMode=0600 for psid.socket",
        ));
    }
    if wanted != 0o600 && found & 0o006 != 0o006 {
        findings.push(Finding::error(
            format!("[access] lets others than root call, and they cannot connect to {shown} (mode {found:o})"),
            "set SocketMode=0666 for psid.socket, in a drop-in: psid judges who calls",
        ));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    if let Some(mode) = writable(folder) {
        findings.push(Finding::error(
            format!(
                "{} is writable for others (mode {mode:o}): they could put another socket there",
                folder.display()
            ),
            format!("`chmod 755 {}`", folder.display()),
        ));
    }
    findings
}

/// A folder that is nobody else's affair.
pub(super) fn private(what: &str, path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        Finding::warning(
            format!(
                "{what} {} is open to others (mode {mode:o}); all in it is sealed",
                path.display()
            ),
            format!("`chmod 700 {}`", path.display()),
        )
    })
}

/// The mode of a folder in which others could replace files.
fn writable(folder: &Path) -> Option<u32> {
    let mode = fs::metadata(folder).ok()?.permissions().mode() & 0o7777;
    let is_sticky = mode & 0o1000 != 0;
    (mode & 0o022 != 0 && !is_sticky).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_is_as_open_as_the_config_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("psid.sock");
        assert!(judge(&Access::default(), &path).is_empty());
        let _listener = UnixListener::bind(&path).unwrap();
        let others = Access { uids: vec![0, 1234], gids: Vec::new() };
        let told = |access: &Access, mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            judge(access, &path)
                .into_iter()
                .map(|finding| finding.problem.what)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(told(&Access::default(), 0o600), "");
        assert_eq!(told(&others, 0o666), "");
        assert!(told(&Access::default(), 0o666).contains("(mode 666), and [access] lets nobody"));
        assert!(told(&others, 0o600).contains("they cannot connect"));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(told(&others, 0o666).contains("another socket there"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(judge(&others, &path)[0].problem.what.contains("is no socket"));
    }
}
