//! The files that the config names, as psid's unit meets them: as its user, behind its sandbox.

use std::fs::File;
use std::io;
use std::path::Path;

use psi_common::Problem;

use crate::config::{Config, NamedFile};

/// What psid.service hides, and the setting that does. The packaged unit's; a drop-in may change them.
const HIDDEN: [(&str, &str); 5] = [
    ("/home", "ProtectHome=yes"),
    ("/root", "ProtectHome=yes"),
    ("/run/user", "ProtectHome=yes"),
    ("/tmp", "PrivateTmp=yes"),
    ("/var/tmp", "PrivateTmp=yes"),
];

/// The place of psid in which the files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Whether psid.service runs the config, with its sandbox.
    pub(super) is_sandboxed: bool,
}

/// What psid could not read, by this process's own user.
pub(super) fn problems(config: &Config, beside: &Path, unit: Unit) -> Vec<Problem> {
    let mut found = Vec::new();
    for NamedFile { key, path } in config.named_files() {
        match hidden(&path, unit) {
            Some(setting) => found.push(Problem::new(
                format!(
                    "{key} names {}, which psid.service does not see ({setting})",
                    path.display()
                ),
                "move the file to /etc/psi, and correct the config",
            )),
            None => found.extend(unreadable(key, &path)),
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

fn unreadable(key: &str, path: &Path) -> Option<Problem> {
    let error = File::open(path).err()?;
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "`chown root:psi {0} && chmod 0640 {0}`, and see its directories",
                path.display()
            )
        }
        _ => "correct the path in the config, or write the file".to_owned(),
    };
    let what = format!("{key} names {}, which psid's user cannot read: {error}", path.display());
    Some(Problem::new(what, remedy))
}

/// The setting of the unit that hides a path, also behind a symbolic link.
fn hidden(path: &Path, unit: Unit) -> Option<&'static str> {
    if !unit.is_sandboxed {
        return None;
    }
    let resolved = path.canonicalize();
    let paths = [Some(path), resolved.as_deref().ok()];
    let is_below = |directory: &str| paths.iter().flatten().any(|path| path.starts_with(directory));
    HIDDEN.iter().find_map(|(directory, setting)| is_below(directory).then_some(*setting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_the_unit_hides_are_found_behind_links_too() {
        let inside = Unit { is_sandboxed: true };
        for (path, setting) in [
            ("/home/admin/ca.pem", Some("ProtectHome=yes")),
            ("/root/secret", Some("ProtectHome=yes")),
            ("/tmp/secret", Some("PrivateTmp=yes")),
            ("/homes/ca.pem", None),
            ("/etc/psi/ca.pem", None),
        ] {
            assert_eq!(hidden(Path::new(path), inside), setting, "{path}");
            assert_eq!(hidden(Path::new(path), Unit { is_sandboxed: false }), None);
        }
        let directory = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        let link = Path::new("/var/lib").join(format!("psi-test-{}", std::process::id()));
        std::fs::write(directory.path().join("file"), "").unwrap();
        if std::os::unix::fs::symlink(directory.path().join("file"), &link).is_ok() {
            assert_eq!(hidden(&link, inside), Some("PrivateTmp=yes"));
            std::fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn missing_file_and_unreadable_credential_have_remedies() {
        let text = "[providers.infisical]\nca_cert = \"/nonexistent/ca.pem\"\n\
                    [providers.infisical.auth]\nmethod = \"universal-auth\"\nclient_id = \"c\"\n\
                    client_secret_credential = \"s\"\n";
        let config = Config::parse(text, Path::new("config.toml")).unwrap();
        let found =
            problems(&config, Path::new("/nonexistent/config.toml"), Unit { is_sandboxed: true });
        assert_eq!(found.len(), 1, "a missing credential may be delivered: {found:?}");
        let line = found[0].to_string();
        assert!(
            line.starts_with("ca_cert names /nonexistent/ca.pem, which psid's user cannot read"),
            "{line}"
        );
    }
}
