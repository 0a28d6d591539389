//! The credentials that the helper may open: those that a config of root names.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use toml::{Table, Value};

/// The name of the credential with the key of the tpm backend, the only one that the helper seals.
pub const CACHE_KEY: &str = "psi-cache-key";
const MAX_CONFIG: u64 = 1 << 20;

/// Why the helper must not open the credential `name`; `None` if it may.
///
/// A key of the config that names a credential ends in `_credential`. A config that is otherwise invalid is
/// accepted: psid keeps running with the previous one, whose credentials it needs at each login.
pub(super) fn objection(name: &str, config: &Path) -> Option<String> {
    if name == CACHE_KEY {
        return None;
    }
    match names_in(config) {
        Ok(names) if names.iter().any(|known| known == name) => None,
        Ok(_) => Some(format!(
            "no key of {} that ends in _credential names the credential {name}",
            config.display()
        )),
        Err(why) => Some(format!("{}: {why}, so it names no credential {name}", config.display())),
    }
}

fn names_in(config: &Path) -> Result<Vec<String>, NamesError> {
    // psid can create files in this directory, so neither the file nor a link to it may be its own.
    let link = std::fs::symlink_metadata(config)?;
    let root = nix::unistd::geteuid().as_raw();
    if link.uid() != root {
        return Err(NamesError::NotOfRoot);
    }
    let file = File::open(config)?;
    let about = file.metadata()?;
    if !about.is_file() || about.uid() != root || about.mode() & 0o022 != 0 {
        return Err(NamesError::Writable);
    }
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG).read_to_end(&mut bytes)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| NamesError::NotUtf8)?;
    let table = text
        .parse::<Table>()
        .map_err(|error| NamesError::Malformed(error.message().replace('\n', " ")))?;
    let mut names = Vec::new();
    collect(&table, &mut names);
    Ok(names)
}

/// A config names no credentials.
#[derive(Debug, thiserror::Error)]
enum NamesError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it does not belong to root")]
    NotOfRoot,
    #[error("it is not a file of root that only root may write")]
    Writable,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("{0}")]
    Malformed(String),
}

fn collect(table: &Table, names: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::String(name) if key.ends_with("_credential") => names.push(name.clone()),
            Value::Table(table) => collect(table, names),
            Value::Array(values) => {
                values.iter().filter_map(Value::as_table).for_each(|table| collect(table, names));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn objection_accepts_only_names_in_the_config() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let text = "[providers.infisical.auth]\nclient_secret_credential = \"one\"\n\
            [providers.infisical.projects.a]\nauth = { key_credential = \"two\", client_id = \"no\" }\n\
            [providers.pkcs11]\npin_credential = \"three\" # pin_credential = \"four\"\n\
            unknown = true\n[[others]]\nsome_credential = \"five\"\n";
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        for name in ["one", "two", "three", "five", CACHE_KEY] {
            assert_eq!(objection(name, &path), None, "{name}");
        }
        for name in ["four", "no", "ssh-host-key", ""] {
            assert!(objection(name, &path).is_some_and(|why| why.contains("no key of ")), "{name}");
        }
    }

    #[test]
    fn objection_rejects_a_config_that_other_users_may_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        assert!(objection("one", &path).is_some(), "no config");
        assert_eq!(objection(CACHE_KEY, &path), None);
        fs::write(&path, "a_credential = \"one\"\n").unwrap();
        for mode in [0o660, 0o646] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(objection("one", &path).is_some_and(|why| why.contains("only root may write")));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(objection("one", &path), None);
        let link = directory.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(objection("one", &link), None, "a link of root to a file of root");
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(1234), None).unwrap();
            assert!(objection("one", &link).is_some(), "a link of psid");
        }
        fs::write(&path, "a_credential = \"one\"\nbroken").unwrap();
        assert!(objection("one", &path).is_some());
    }
}
