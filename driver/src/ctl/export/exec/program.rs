//! Finds the program of `exec`.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use psi_common::Exit;

use crate::error::CliError;

/// The search path of shells and execvp(3) if PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Finds a program as execvp(3) does. A name with a slash is a path.
pub(super) fn find(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, CliError> {
    let shown = name.to_string_lossy();
    if name.as_bytes().contains(&b'/') {
        let program = PathBuf::from(name);
        return match usable(&program) {
            Ok(()) => Ok(program),
            Err(cause) => Err(exec_error(&program, &cause)),
        };
    }
    let mut denied = None;
    let path = path.unwrap_or(DEFAULT_PATH.as_ref());
    // An empty name would be the directories themselves.
    let directories = path.as_bytes().split(|byte| *byte == b':').filter(|_| !name.is_empty());
    for directory in directories {
        // An empty entry is the working directory.
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate = Path::new(OsStr::from_bytes(directory)).join(name);
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(cause) if cause.kind() == ErrorKind::PermissionDenied => {
                denied.get_or_insert(exec_error(&candidate, &cause));
            }
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| {
        CliError::new(
            Exit::NoSuchCommand,
            format!("the program {shown} is not in PATH"),
            "give its path, or install it",
        )
    }))
}

/// The error of a program that did not run: status 127 if it is missing, 126 if the caller cannot execute it.
pub(super) fn exec_error(program: &Path, cause: &io::Error) -> CliError {
    let (exit, remedy) = match cause.kind() {
        ErrorKind::NotFound => {
            (Exit::NoSuchCommand, "check its path and the interpreter in its first line")
        }
        ErrorKind::PermissionDenied => {
            (Exit::NotExecutable, "make it executable, on a file system without noexec")
        }
        ErrorKind::ArgumentListTooLong => {
            (Exit::NotExecutable, "give it fewer arguments, or use `psictl render`")
        }
        _ => (Exit::NotExecutable, "check that it is a program for this machine's architecture"),
    };
    CliError::new(exit, format!("running {}: {cause}", program.display()), remedy)
}

/// Whether a file is regular and the caller may execute it; the kernel decides at the exec.
fn usable(program: &Path) -> io::Result<()> {
    if !std::fs::metadata(program)?.is_file() {
        return Err(Errno::EACCES.into());
    }
    Ok(faccessat(AT_FDCWD, program, AccessFlags::X_OK, AtFlags::AT_EACCESS)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn find_searches_the_caller_s_path() {
        let base = tempfile::tempdir().unwrap();
        let (first, second) = (base.path().join("first"), base.path().join("second"));
        for (directory, mode) in [(&first, 0o644), (&second, 0o755)] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("tool"), "").unwrap();
            fs::set_permissions(directory.join("tool"), Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(first.join("directory")).unwrap();
        let path = format!("/nonexistent:{}:{}", first.display(), second.display());
        let in_path = |name: &str, path: &str| find(name.as_ref(), Some(path.as_ref()));
        assert_eq!(in_path("tool", &path).unwrap(), second.join("tool"));
        assert_eq!(
            in_path("tool", first.to_str().unwrap()).unwrap_err().exit(),
            Exit::NotExecutable
        );
        assert_eq!(in_path("directory", &path).unwrap_err().exit(), Exit::NotExecutable);
        assert_eq!(in_path("other", &path).unwrap_err().exit(), Exit::NoSuchCommand);
        assert_eq!(in_path("", &path).unwrap_err().exit(), Exit::NoSuchCommand);
        assert_eq!(in_path("/nonexistent/tool", &path).unwrap_err().exit(), Exit::NoSuchCommand);
        let by_path = second.join("tool");
        assert_eq!(in_path(by_path.to_str().unwrap(), "").unwrap(), by_path);
        assert!(find("sh".as_ref(), None).is_ok());
    }
}
