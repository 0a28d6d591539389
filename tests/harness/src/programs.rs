//! The programs under test, which cargo builds beside this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The programs, each with its source directories.
const PROGRAMS: [(&str, &[&str]); 8] = [
    ("psid", &["daemon/src", "common/src", "proto/src"]),
    ("psi-driver", &["driver/src", "common/src", "proto/src"]),
    ("psictl", &["driver/src", "common/src", "proto/src"]),
    ("fake-infisical", &["tests/fake-infisical/src"]),
    ("libfaulty_token.so", &["tests/faulty-token/src"]),
    ("psi-probe", &["tests/probes/src/bin/psi-probe.rs", "daemon/src", "common/src"]),
    ("psi-bench", &["tests/bench/src"]),
    ("psi-provider", &["tests/probes/src/bin/psi-provider.rs", "daemon/src", "common/src"]),
];

/// The path of a program. Cargo does not build another package's programs for a test, so they may
/// be missing or outdated; both are errors.
pub fn program(name: &str) -> PathBuf {
    static CHECKED: OnceLock<Result<(), String>> = OnceLock::new();
    if let Err(why) = CHECKED.get_or_init(|| PROGRAMS.iter().try_for_each(check)) {
        panic!("{why}: run `cargo build --workspace` first");
    }
    profile_directory().join(name)
}

/// Copies a program to a path that every user can reach. Another process does it: our descriptor,
/// open for writing, could be inherited by a concurrent child, and then the copy cannot be run
/// ("text file busy").
pub fn copy_program(name: &str, to: &Path) {
    let status = Command::new("cp").arg(program(name)).arg(to).status().unwrap();
    assert!(status.success(), "copying {name} to {}", to.display());
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// `target/PROFILE`: a test is in `deps` below it.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// `target`
pub fn target_directory() -> PathBuf {
    profile_directory().parent().unwrap().to_owned()
}

fn check((name, sources): &(&str, &[&str])) -> Result<(), String> {
    let program = profile_directory().join(name);
    let built = fs::metadata(&program)
        .and_then(|meta| meta.modified())
        .map_err(|error| format!("{}: {error}", program.display()))?;
    for directory in *sources {
        let (path, changed) = newest(&repository().join(directory));
        if changed > built {
            return Err(format!("{} is older than {}", program.display(), path.display()));
        }
    }
    Ok(())
}

fn newest(path: &Path) -> (PathBuf, SystemTime) {
    let own = fs::metadata(path).and_then(|meta| meta.modified()).unwrap();
    if path.is_file() {
        return (path.to_owned(), own);
    }
    let below = fs::read_dir(path).unwrap().map(|entry| newest(&entry.unwrap().path()));
    // A directory's own time changes with names, also those of editors' temporary files.
    let nothing = (path.to_owned(), SystemTime::UNIX_EPOCH);
    below.fold(nothing, |best, next| if next.1 > best.1 { next } else { best })
}
