//! Quadlet units: the variables of `[Container]` (podman-systemd.unit(5), pkg/systemd/quadlet).
//!
//! Quadlet generates a `podman run` from it, and systemd expands specifiers and variables when it starts that. Only
//! systemd knows such a value, so it is left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use psi_common::{Exit, SecretBytes, check};

use super::entries::Entries;
use super::env_file;
use super::podman_secret::Source;
use crate::ctl::args::EnvFileFormat;
use crate::ctl::quadlet::{Dialect, SyntaxError, UnitFile, expanded, words};
use crate::error::CliError;

/// The variables that a unit sets for its container.
#[derive(Debug, Default, PartialEq, Eq)]
struct Provided {
    /// Words of `Environment=`.
    variables: Vec<Vec<u8>>,
    /// Values of `EnvironmentFile=`.
    files: Vec<Vec<u8>>,
    /// Values of `Secret=`.
    secrets: Vec<Vec<u8>>,
    /// The key of each value that quadlet drops.
    dropped: Vec<&'static str>,
}

/// Reads units one after the other.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Entries, CliError> {
    let mut entries = Entries::default();
    let mut secrets = None;
    for file in files {
        let text = env_file::contents(file)?;
        let provided = parse(text.expose_secret()).map_err(|error| {
            let what = format!("quadlet refuses {}: {error}", file.display());
            CliError::new(Exit::BadInput, what, "correct the unit")
        })?;
        for key in &provided.dropped {
            let unit = file.display();
            entries.leave_out(format!(
                "quadlet drops a {key}= of {unit}: it has an escape that does not exist; it is left out"
            ));
        }
        // In podman's order: variables override files, and secrets override both.
        for named in &provided.files {
            put_file(&mut entries, file, named)?;
        }
        for word in &provided.variables {
            put_variable(&mut entries, file, word)?;
        }
        for word in &provided.secrets {
            if secrets.is_none() {
                secrets = Some(Source::load()?);
            }
            if let Some(secrets) = &secrets {
                put_secret(&mut entries, file, word, secrets)?;
            }
        }
    }
    Ok(entries)
}

fn put_file(entries: &mut Entries, unit: &Path, named: &[u8]) -> Result<(), CliError> {
    let Some(named) = expanded(named, |_| None) else {
        let unit = unit.display();
        entries.leave_out(format!(
            "an EnvironmentFile= of {unit} has a specifier or variable that only systemd expands; it is left out"
        ));
        return Ok(());
    };
    let path = Path::new(OsStr::from_bytes(&named));
    let path = unit.parent().map_or_else(|| path.to_owned(), |directory| directory.join(path));
    env_file::read(&path, EnvFileFormat::Podman, entries)
}

/// Adds a variable. A word that is no assignment may be part of a secret that spans lines: the unit is rejected, and
/// the word is not shown.
fn put_variable(entries: &mut Entries, unit: &Path, word: &[u8]) -> Result<(), CliError> {
    let unit = unit.display();
    let at = word.iter().position(|byte| *byte == b'=');
    let name = std::str::from_utf8(&word[..at.unwrap_or(word.len())]).ok();
    let Some(name) = name.filter(|name| check::variable(name).is_ok()) else {
        return Err(CliError::new(
            Exit::BadInput,
            format!(
                "an Environment= of {unit} has a word without a variable name; nothing was imported"
            ),
            "put a value with blanks into quotes, \"NAME=a value\"",
        ));
    };
    let Some(at) = at else {
        entries.leave_out(format!("an Environment= of {unit} has no value; it is left out"));
        return Ok(());
    };
    match expanded(&word[at + 1..], |_| None) {
        Some(value) => entries.put(name.to_owned(), SecretBytes::new(value)),
        None => entries.leave_out(format!(
            "Environment= {name} of {unit} has a % or ${{}} that only systemd expands; it is left out"
        )),
    }
    Ok(())
}

/// `NAME,type=env,target=KEY`.
fn put_secret(
    entries: &mut Entries,
    unit: &Path,
    word: &[u8],
    secrets: &Source,
) -> Result<(), CliError> {
    let text = std::str::from_utf8(word).ok().filter(|text| !text.contains(['%', '$']));
    let Some(text) = text else {
        let unit = unit.display();
        entries.leave_out(format!("a Secret= of {unit} has a specifier or variable that only systemd expands; it is left out"));
        return Ok(());
    };
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let target = parts.find_map(|part| part.strip_prefix("target=")).unwrap_or(name);
    let key = target.rsplit('/').next().unwrap_or(target);
    if key.is_empty() {
        let what = format!("Secret={} of {} has no key", text.escape_debug(), unit.display());
        return Err(CliError::new(Exit::BadInput, what, "correct the unit"));
    }
    entries.put(key.to_owned(), secrets.value(name)?);
    Ok(())
}

/// What `[Container]` of a unit provides. Quadlet drops a value with an escape that does not exist.
fn parse(text: &[u8]) -> Result<Provided, SyntaxError> {
    let file = UnitFile::parse(text, Dialect::Quadlet)?;
    let mut provided = Provided::default();
    let lists = [
        ("Environment", &mut provided.variables),
        ("EnvironmentFile", &mut provided.files),
        ("Secret", &mut provided.secrets),
    ];
    for (key, list) in lists {
        for value in file.values("Container", key) {
            match words(value, Dialect::Quadlet) {
                Some(words) => list.extend(words),
                None => provided.dropped.push(key),
            }
        }
    }
    Ok(provided)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(words: &[Vec<u8>]) -> Vec<String> {
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Its last line looks like an assignment; the words before it do not.
    #[test]
    fn put_variable_rejects_a_private_key_over_several_words() {
        let unit = b"[Container]\nEnvironment=KEY=-----BEGIN PRIVATE KEY----- \\\n\
            MC4CAQAwBQYDK2VwBCIEIE== -----END PRIVATE KEY-----\n";
        let mut entries = Entries::default();
        let words = parse(unit).unwrap().variables;
        let mut put = words.iter().map(|word| put_variable(&mut entries, Path::new("u"), word));
        let failure = put.find_map(Result::err).unwrap().to_string();
        assert!(failure.starts_with("an Environment= of u has a word"), "{failure}");
        assert!(!failure.contains("MC4") && !failure.contains("BEGIN"), "{failure}");
        let name = b"A=1".as_slice();
        put_variable(&mut Entries::default(), Path::new("u"), name).unwrap();
        put_variable(&mut Entries::default(), Path::new("u"), b"PASSED").unwrap();
    }

    #[test]
    fn parse_reads_the_container_section_only() {
        let unit = b"[Unit]\nEnvironment=NO=1\n[Container]\n# Environment=NO=2\n Environment = A=1 \\\n; no\n  B=2\n\
            EnvironmentFile=./x.env\nSecret=app--K,type=env,target=K\n[Service]\nEnvironment=NO=3\n";
        let provided = parse(unit).unwrap();
        assert_eq!(texts(&provided.variables), ["A=1", "B=2"]);
        assert_eq!(texts(&provided.files), ["./x.env"]);
        assert_eq!(texts(&provided.secrets), ["app--K,type=env,target=K"]);
        let unit =
            b"[Container]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\nEnvironment=C=\\q";
        let provided = parse(unit).unwrap();
        assert_eq!(provided.dropped, ["Environment"]);
        assert_eq!(texts(&provided.variables), ["B=2"]);
    }

    proptest! {
        #[test]
        fn words_round_trip_a_quoted_value(value in "[^\0\n\r]{0,20}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let unit = format!("[Container]\nEnvironment=\"A={escaped}\"\n");
            prop_assert_eq!(texts(&parse(unit.as_bytes()).unwrap().variables), [format!("A={value}")]);
        }
    }
}
