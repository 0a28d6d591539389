//! The installed files, checked by the tools of systemd, SELinux and AppArmor.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure of a test"
)]

mod confinement;
mod container;
mod install;
mod packages;
mod removal;
mod units;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use psi_harness::{Outcome, copy_program, repository, run};

/// A root directory that `make install` fills from the programs under test.
struct Tree {
    root: TempDir,
    built: TempDir,
    prefix: &'static str,
}

impl Tree {
    fn installed(prefix: &'static str) -> Self {
        let tree = Self { root: tempfile::tempdir().unwrap(), built: built(), prefix };
        tree.install();
        tree
    }

    fn install(&self) {
        let mut make = Command::new("make");
        // Flags of the make that runs the tests do not apply to this one.
        make.env_remove("MAKEFLAGS").env_remove("MFLAGS").current_dir(repository());
        make.arg("-s").arg("install");
        make.arg(format!("DESTDIR={}", self.root.path().display()));
        make.arg(format!("PREFIX={}", self.prefix));
        make.arg(format!("DIST={}", self.built.path().display()));
        succeeds(make);
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below.trim_start_matches('/'))
    }

    /// Every file, with its mode.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(self.root.path(), &mut found);
        let mut lines: Vec<_> = found
            .iter()
            .map(|path| {
                let below = path.strip_prefix(self.root.path()).unwrap();
                let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
                format!("{mode:04o} /{}", below.display())
            })
            .collect();
        lines.sort_by(|a, b| a[5..].cmp(&b[5..]));
        lines
    }
}

/// A directory with the programs under test, without debug symbols, which would be most of a
/// package.
fn built() -> TempDir {
    let built = tempfile::tempdir().unwrap();
    for name in ["psid", "psi-driver", "psictl"] {
        let copy = built.path().join(name);
        copy_program(name, &copy);
        let mut strip = Command::new("strip");
        strip.arg(copy);
        succeeds(strip);
    }
    built
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Runs a command that must succeed; a panic has its output.
fn succeeds(command: Command) -> Outcome {
    let shown = format!("{command:?}");
    let outcome = run(command, b"");
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert_eq!(outcome.code, 0, "{shown}\n{text}\n{}", outcome.stderr);
    outcome
}
