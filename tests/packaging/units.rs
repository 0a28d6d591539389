//! systemd's own tools on the installed units: they find what a host would find at its next boot.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::{Tree, succeeds};

/// Copies the installed units into a directory in which their programs exist.
fn units(tree: &Tree, scope: &str, to: &std::path::Path) -> Vec<std::path::PathBuf> {
    let programs = format!("{}/psi", tree.path("/usr/bin").display());
    let directory = tree.path("/usr/lib/systemd").join(scope);
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap().replace("/usr/bin/psi", &programs);
            let unit = to.join(path.file_name().unwrap());
            fs::write(&unit, text).unwrap();
            unit
        })
        .collect()
}

fn verify(scope: &str, flag: &str) {
    let tree = Tree::installed("/usr");
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", flag]).args(units(&tree, scope, directory.path()));
    command.env("SYSTEMD_UNIT_PATH", format!("{}:", directory.path().display()));
    command.env("HOME", directory.path()).env("XDG_RUNTIME_DIR", directory.path());
    let warnings = succeeds(command).stderr;
    let of_ours: Vec<_> = warnings.lines().filter(|line| line.contains("psi")).collect();
    assert!(of_ours.is_empty(), "{warnings}");
}

#[test]
fn system_units_are_valid() {
    verify("system", "--system");
}

#[test]
fn user_units_are_valid() {
    verify("user", "--user");
}

/// systemd-tmpfiles refuses to change the owner of root's file in another user's directory, and
/// exits with 73.
#[test]
fn user_and_directories_are_created() {
    let tree = Tree::installed("/usr");
    let root = format!("--root={}", tree.path("/").display());
    let mut sysusers = Command::new("systemd-sysusers");
    sysusers.arg(&root);
    succeeds(sysusers);
    let mut tmpfiles = Command::new("systemd-tmpfiles");
    tmpfiles.args([&root, "--create", "psi.conf"]);
    assert_eq!(succeeds(tmpfiles).stderr, "");
    let passwd = fs::read_to_string(tree.path("/etc/passwd")).unwrap();
    let user: Vec<_> = passwd.trim_end().split(':').collect();
    assert_eq!((user[0], user[5], user[6]), ("psi", "/var/lib/psi", "/usr/sbin/nologin"));
    for (path, mode, owner, group) in [
        // psid's files there are psid's; the config is root's, and psid cannot replace it.
        ("/etc/psi", 0o1770, "0", user[3]),
        ("/etc/psi/config.toml", 0o640, "0", user[3]),
        ("/var/lib/psi", 0o700, user[2], user[3]),
        ("/run/psi", 0o755, "0", "0"),
        ("/run/psi/render", 0o755, "0", "0"),
        ("/run/psid", 0o700, user[2], user[3]),
    ] {
        let meta = fs::metadata(tree.path(path)).unwrap();
        let (uid, gid) = (meta.uid().to_string(), meta.gid().to_string());
        assert_eq!((meta.mode() & 0o7777, &*uid, &*gid), (mode, owner, group), "{path}");
    }
}
