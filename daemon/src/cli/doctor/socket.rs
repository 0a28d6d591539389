//! Findings about the modes of the socket and of the directories.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use psi_common::Finding;

/// Findings about the admin's socket.
pub(super) fn check(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    // psictl reports a daemon that does not run.
    let Ok(meta) = fs::symlink_metadata(path) else { return Vec::new() };
    if !meta.file_type().is_socket() {
        return vec![Finding::error(
            format!("{shown} is not a socket"),
            "remove it, and start psid",
        )];
    }
    let mut findings = Vec::new();
    let found = meta.permissions().mode() & 0o777;
    if found & 0o077 != 0 {
        findings.push(Finding::warning(
            format!("other users than root may connect to {shown} (mode {found:o}), which refuses their calls"),
            "set SocketMode=0600 for psid.socket; users of workloads have /run/psi/users.sock",
        ));
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    if let Some(mode) = writable(directory) {
        findings.push(Finding::error(
            format!(
                "other users may write to {} (mode {mode:o}), and could replace the socket",
                directory.display()
            ),
            format!("`chmod 755 {}`", directory.display()),
        ));
    }
    findings
}

/// The finding that other users may enter a private directory.
pub(super) fn check_private(what: &str, path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        Finding::warning(
            format!(
                "other users may enter {what} {} (mode {mode:o}); its files are encrypted",
                path.display()
            ),
            format!("`chmod 700 {}`", path.display()),
        )
    })
}

/// The mode of a directory in which other users can replace files.
fn writable(directory: &Path) -> Option<u32> {
    let mode = fs::metadata(directory).ok()?.permissions().mode() & 0o7777;
    let is_sticky = mode & 0o1000 != 0;
    (mode & 0o022 != 0 && !is_sticky).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn check_reports_a_socket_that_others_can_reach_or_replace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("psid.sock");
        assert!(check(&path).is_empty());
        let _listener = UnixListener::bind(&path).unwrap();
        let found = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let findings = check(&path).into_iter().map(|finding| finding.problem.what);
            findings.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(found(0o600), "");
        assert!(found(0o666).contains("(mode 666), which refuses their calls"));
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(found(0o600).contains("could replace the socket"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(check(&path)[0].problem.what.contains("is not a socket"));
    }
}
