//! `psi-driver install`: the podman drop-in.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use psi_common::{Exit, Paths};

use crate::args::InstallOptions;
use crate::failure::Failure;
use crate::stdio;

const TITLE: &str = "install";

pub(crate) fn run(paths: &Paths, options: &InstallOptions) -> Result<(), Failure> {
    let program = &options.program;
    let path = program.to_str().filter(|path| is_plain(path)).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("--program {} is no absolute path of plain characters", program.display()),
            "podman hands it to sh: use letters, digits and ._-/ only",
        )
    })?;
    let text = drop_in(path);
    if options.stdout {
        return stdio::write_text(&text);
    }
    let target = &paths.podman_drop_in;
    if fs::read_to_string(target).is_ok_and(|present| present == text) {
        return stdio::write_text(&format!("{} is in place already\n", target.display()));
    }
    replace(target, &text).map_err(|cause| {
        Failure::io(
            &format!("writing {}", target.display()),
            &cause,
            "run it as the owner of podman's config",
        )
    })?;
    if !program.exists() {
        stdio::note(TITLE, &format!("{path} does not exist yet; install psi-driver there"));
    }
    stdio::write_text(&format!(
        "wrote {}\npodman now stores new secrets through psi; secrets made before keep their driver\n",
        target.display()
    ))
}

/// The commands are permanent: podman copies them into every secret at its creation. So there is no
/// socket, token, flag or timeout in them; `exec` spares a shell process for each lookup.
fn drop_in(program: &str) -> String {
    let mut text = String::from(
        "# Written by `psi-driver install`. Podman copies these commands into each secret it creates.\n\
         [secrets]\ndriver = \"shell\"\n[secrets.opts]\n",
    );
    for verb in ["lookup", "store", "delete", "list"] {
        text.push_str(&format!("{verb:6} = \"exec {program} {verb}\"\n"));
    }
    text
}

/// Whether `sh` and TOML take the path as it is.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/+".contains(&byte))
}

/// Podman may read its config at any moment: it sees the old file or the new one.
fn replace(target: &Path, text: &str) -> io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(target)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packaged file and the written one are one text, and that is the contract.
    #[test]
    fn drop_in_is_the_packaged_one() {
        let packaged = include_str!("../../../contrib/containers.conf.d/50-psi.conf");
        assert_eq!(drop_in("/usr/bin/psi-driver"), packaged);
        for verb in ["lookup", "store", "delete", "list"] {
            assert!(packaged.contains(&format!("= \"exec /usr/bin/psi-driver {verb}\"\n")));
        }
    }

    #[test]
    fn a_path_for_the_shell_is_plain() {
        assert!(is_plain("/usr/local/bin/psi-driver"));
        for path in ["psi-driver", "/a b/psi-driver", "/a;rm", "/a\"b", "/a$b", "/a\nb"] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
