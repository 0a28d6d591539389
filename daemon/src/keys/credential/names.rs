//! The credentials that the helper may open: those that root's config names.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use toml::{Table, Value};

/// The name of the systemd credential that holds the tpm backend's key. It is the only one that is sealed.
pub const CACHE_KEY: &str = "psi-cache-key";
const MAX_CONFIG: u64 = 1 << 20;

/// Why the helper does not open the credential `name`; none if it does.
///
/// The keys of a config that name a credential end in `_credential`. A config with another fault still counts:
/// psid goes on with the one before it, whose credentials it needs at each login.
pub(super) fn objection(name: &str, config: &Path) -> Option<String> {
    if name == CACHE_KEY {
        return None;
    }
    match named(config) {
        Ok(names) if names.iter().any(|named| named == name) => None,
        Ok(_) => Some(format!(
            "no key of {} that ends in _credential names the credential {name}",
            config.display()
        )),
        Err(why) => Some(format!("{}: {why}, so it names no credential {name}", config.display())),
    }
}

fn named(config: &Path) -> Result<Vec<String>, String> {
    let told = |error: std::io::Error| error.to_string();
    // psid may make files in this directory, and must not decide; a link is root's too.
    let link = std::fs::symlink_metadata(config).map_err(told)?;
    let root = nix::unistd::geteuid().as_raw();
    if link.uid() != root {
        return Err("it is not root's".into());
    }
    let file = File::open(config).map_err(told)?;
    let about = file.metadata().map_err(told)?;
    if !about.is_file() || about.uid() != root || about.mode() & 0o022 != 0 {
        return Err("it is not a file of root's that nobody else may write".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG).read_to_end(&mut bytes).map_err(told)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8")?;
    let table = text.parse::<Table>().map_err(|error| error.message().replace('\n', " "))?;
    let mut names = Vec::new();
    collect(&table, &mut names);
    Ok(names)
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
    fn only_names_of_the_config_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let text = "[providers.infisical.auth]\nclient_secret_credential = \"one\"\n\
            [providers.infisical.projects.a]\nauth = { key_credential = \"two\", client_id = \"no\" }\n\
            [providers.nitrokeyhsm]\npin_credential = \"three\" # pin_credential = \"four\"\n\
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
    fn a_config_that_others_may_write_or_that_cannot_be_read_names_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        assert!(objection("one", &path).is_some(), "no config");
        assert_eq!(objection(CACHE_KEY, &path), None);
        fs::write(&path, "a_credential = \"one\"\n").unwrap();
        for mode in [0o660, 0o646] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                objection("one", &path).is_some_and(|why| why.contains("nobody else may write"))
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(objection("one", &path), None);
        let link = directory.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(objection("one", &link), None, "root's link to root's file");
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(1234), None).unwrap();
            assert!(objection("one", &link).is_some(), "psid's link");
        }
        fs::write(&path, "a_credential = \"one\"\nbroken").unwrap();
        assert!(objection("one", &path).is_some());
    }
}
