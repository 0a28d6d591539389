//! The deb and the rpm have what `make install` installs. tests/vm/packages.sh installs the first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Tree, built, succeeds};
use psi_harness::repository;

/// The installed paths, without man pages, which packages compress, and without documentation.
fn compared<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let apart = ["/usr/share/man/", "/usr/share/doc/", "/usr/share/lintian/"];
    let mut paths: Vec<_> =
        paths.filter(|path| !apart.iter().any(|directory| path.starts_with(directory))).collect();
    paths.sort_unstable();
    paths.into_iter().map(str::to_owned).collect()
}

fn output(program: &str, args: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    command.args(args).arg(file);
    String::from_utf8(succeeds(command).stdout).unwrap()
}

/// Packs a deb of these programs.
pub(super) fn deb(programs: &Path, out: &Path, version: &str) -> PathBuf {
    let mut make = Command::new(repository().join("contrib/packaging/deb.sh"));
    make.env_remove("MAKEFLAGS").env_remove("MFLAGS");
    make.env("VERSION", version).env("DIST", programs).env("OUT", out).env("COMPRESS", "none");
    succeeds(make);
    fs::read_dir(out).unwrap().next().unwrap().unwrap().path()
}

/// Packs an rpm of these programs.
pub(super) fn rpm(programs: &Path, top: &Path, version: &str) -> PathBuf {
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.env_remove("MAKEFLAGS").env_remove("MFLAGS").args(["-bb", "--quiet"]);
    for (name, value) in [
        ("_topdir", top),
        ("_binary_payload", Path::new("w0.ufdio")),
        ("psi_tree", &repository()),
        ("psi_dist", programs),
        ("psi_version", Path::new(version)),
    ] {
        rpmbuild.arg("--define").arg(format!("{name} {}", value.display()));
    }
    rpmbuild.arg(repository().join("contrib/packaging/psid.spec"));
    succeeds(rpmbuild);
    let directory = fs::read_dir(top.join("RPMS")).unwrap().next().unwrap().unwrap().path();
    fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn deb_has_the_installed_files_and_no_conffile() {
    let (built, out) = (built(), tempfile::tempdir().unwrap());
    let deb = deb(built.path(), out.path(), "9.8.7");

    let listed = output("dpkg-deb", &["--contents"], &deb);
    let mut files = Vec::new();
    for line in listed.lines().filter(|line| !line.ends_with('/')) {
        let (mode_and_owner, path) = line.split_once("./").unwrap();
        assert!(mode_and_owner.contains(" root/root "), "{line}");
        files.push(format!("/{path}"));
    }
    let tree = Tree::installed("/usr").files();
    let installed = tree.iter().map(|line| &line[5..]).filter(|path| !path.starts_with("/etc/"));
    assert_eq!(compared(files.iter().map(String::as_str)), compared(installed));

    let control = output("dpkg-deb", &["--info"], &deb);
    for line in ["Package: psid", "Version: 9.8.7", "Depends: libc6 (>= 2."] {
        assert!(control.contains(line), "{control}");
    }
    assert!(!control.contains("conffiles"), "{control}");
    for script in ["postinst", "prerm", "postrm"] {
        assert!(control.contains(script), "{control}");
        let mut sh = Command::new("sh");
        sh.arg("-n").arg(repository().join("contrib/packaging/deb").join(script));
        succeeds(sh);
    }
}

#[test]
fn rpm_has_the_installed_files_and_no_config() {
    let (built, top) = (built(), tempfile::tempdir().unwrap());
    let rpm = rpm(built.path(), top.path(), "9.8.7");

    let listed = output("rpm", &["-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]"], &rpm);
    let files = listed.lines().filter(|line| !line.starts_with('d'));
    let files = files.map(|line| line.split_once(' ').unwrap().1);
    let tree = Tree::installed("/usr").files();
    let installed = tree.iter().map(|line| &line[5..]).filter(|path| !path.starts_with("/etc/"));
    assert_eq!(compared(files), compared(installed));
    assert_eq!(output("rpm", &["-qp", "--configfiles"], &rpm), "");
    let scripts = output("rpm", &["-qp", "--scripts"], &rpm);
    for part in ["preinstall", "postinstall", "preuninstall", "postuninstall"] {
        assert!(scripts.contains(part), "{scripts}");
    }
    let mut sh = Command::new("sh");
    let script: String = scripts
        .lines()
        .filter(|line| !line.contains("scriptlet (using /bin/sh)"))
        .map(|line| format!("{line}\n"))
        .collect();
    sh.args(["-n", "-c", &script]);
    succeeds(sh);
}
