//! The files that the config names, as psid's unit meets them: as its user, behind its sandbox.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use psi_common::Problem;

use super::unit::ServiceUnit;
use crate::config::{Config, NamedFile};

/// What psid could not read, by this process's own user; `unit` is the one that runs the config, if one does.
pub(super) fn problems(config: &Config, beside: &Path, unit: Option<&ServiceUnit>) -> Vec<Problem> {
    let mut found = Vec::new();
    for NamedFile { key, path } in config.named_files() {
        match seen(&path, unit) {
            Err(setting) => found.push(Problem::new(
                format!(
                    "{key} names {}, which psid.service does not see ({setting})",
                    path.display()
                ),
                "move the file to /etc/psi, and correct the config",
            )),
            Ok(seen) => found.extend(unreadable(key, &path, &seen)),
        }
    }
    for name in config.named_credentials() {
        let path = beside.with_file_name(format!("{name}.cred"));
        if let Err(error) = File::open(&path)
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            found.push(Problem::new(
                format!("psid's user cannot read {}: {error}", path.display()),
                format!("`chmod 0644 {}`: its content is encrypted", path.display()),
            ));
        }
    }
    found
}

/// The directories that psid writes, and that its unit does not let it write.
pub(super) fn unwritable(directories: &[&Path], unit: &ServiceUnit) -> Vec<Problem> {
    let all = directories.iter().filter_map(|directory| {
        let setting = unit.unwritable(directory)?;
        Some(Problem::new(
            format!("psid.service does not let psid write {} ({setting})", directory.display()),
            "correct its drop-in: `systemctl edit psid.service`",
        ))
    });
    all.collect()
}

fn unreadable(key: &str, path: &Path, seen: &Path) -> Option<Problem> {
    let error = File::open(seen).err()?;
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "`chown root:psi {0} && chmod 0640 {0}`, and see its directories",
                seen.display()
            )
        }
        _ => "correct the path in the config, or write the file".to_owned(),
    };
    let what = format!("{key} names {}, which psid's user cannot read: {error}", path.display());
    Some(Problem::new(what, remedy))
}

/// The path of the host that psid opens, also behind a symbolic link; the error is the setting that hides it.
fn seen<'a>(path: &Path, unit: Option<&'a ServiceUnit>) -> Result<PathBuf, &'a str> {
    let Some(unit) = unit else { return Ok(path.to_owned()) };
    let seen = unit.seen(path)?;
    match seen.canonicalize() {
        Ok(target) if target != seen => unit.seen(&target),
        _ => Ok(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_path_is_found_behind_a_link() {
        let unit = ServiceUnit::read();
        let hidden = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        let shown = tempfile::Builder::new().tempdir_in("/var/lib").unwrap();
        let link = shown.path().join("link");
        std::fs::write(hidden.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(hidden.path().join("file"), &link).unwrap();
        assert_eq!(seen(&link, Some(&unit)), Err("PrivateTmp=yes"));
        assert_eq!(seen(&link, None), Ok(link.clone()));
    }

    #[test]
    fn missing_file_and_unreadable_credential_have_remedies() {
        let text = "[providers.infisical]\nca_cert = \"/nonexistent/ca.pem\"\n\
                    [providers.infisical.auth]\nmethod = \"universal-auth\"\nclient_id = \"c\"\n\
                    client_secret_credential = \"s\"\n";
        let config = Config::parse(text, Path::new("config.toml")).unwrap();
        let found = problems(&config, Path::new("/nonexistent/config.toml"), None);
        assert_eq!(found.len(), 1, "a missing credential may be delivered: {found:?}");
        let line = found[0].to_string();
        assert!(
            line.starts_with("ca_cert names /nonexistent/ca.pem, which psid's user cannot read"),
            "{line}"
        );
    }
}
