//! Quadlet units: the variables of `[Container]` (podman-systemd.unit(5), pkg/systemd/quadlet).
//!
//! Quadlet merges a unit's drop-ins into it and generates a `podman run`; systemd expands specifiers and variables when it
//! starts that. Only systemd knows such a value, so it is left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use psi_common::{Exit, SecretBytes, check};

use super::entries::Entries;
use super::env_file;
use super::podman_secret::Source;
use crate::ctl::args::EnvFileFormat;
use crate::ctl::quadlet::{Dialect, UnitFile, drop_ins_beside, expanded, words};
use crate::ctl::setup::DropIn;
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
    /// Options of `PodmanArgs=` that set variables.
    options: Vec<String>,
}

/// Reads units one after the other.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Entries, CliError> {
    let mut entries = Entries::default();
    let mut secrets = None;
    for file in files {
        let provided = Provided::of(&unit_file(file, &mut entries)?);
        let unit = file.display();
        for key in &provided.dropped {
            entries.leave_out(format!(
                "quadlet drops a {key}= of {unit}: it has an escape that does not exist; it is left out"
            ));
        }
        for option in &provided.options {
            entries.leave_out(format!("PodmanArgs= of {unit} has {option}; it is left out"));
        }
        // In podman's order: variables override files, and secrets override both.
        for named in &provided.files {
            put_file(&mut entries, file, named)?;
        }
        for (nth, word) in provided.variables.iter().enumerate() {
            let before = nth.checked_sub(1).and_then(|nth| variable(&provided.variables[nth]));
            put_variable(&mut entries, file, word, before)?;
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

/// A unit with the drop-ins beside it, but psi's own: its values are at their provider.
fn unit_file(path: &Path, entries: &mut Entries) -> Result<UnitFile, CliError> {
    let mut unit = parse(path, env_file::contents(path)?.expose_secret())?;
    for path in drop_ins_beside(path) {
        let text = env_file::contents(&path)?;
        if DropIn::is_written_by_psi(text.expose_secret()) {
            entries.warn(format!(
                "{} has secrets of psi: not imported, for the values are at their provider",
                path.display()
            ));
        } else {
            unit.merge(parse(&path, text.expose_secret())?);
        }
    }
    Ok(unit)
}

fn parse(path: &Path, text: &[u8]) -> Result<UnitFile, CliError> {
    UnitFile::parse(text, Dialect::Quadlet).map_err(|error| {
        let what = format!("quadlet refuses {}: {error}", path.display());
        CliError::new(Exit::BadInput, what, "correct the unit")
    })
}

fn put_file(entries: &mut Entries, unit: &Path, named: &[u8]) -> Result<(), CliError> {
    let Some(plain) = expanded(named, |_| None) else {
        let (unit, named) = (unit.display(), String::from_utf8_lossy(named));
        entries.leave_out(format!(
            "EnvironmentFile={} of {unit} has a specifier or variable that only systemd expands; it is left out: \
             import that file by `psictl import env-file --format podman`",
            named.escape_debug()
        ));
        return Ok(());
    };
    let path = Path::new(OsStr::from_bytes(&plain));
    let path = unit.parent().map_or_else(|| path.to_owned(), |directory| directory.join(path));
    env_file::read(&path, EnvFileFormat::Podman, entries)
}

/// The variable that a word of `Environment=` names.
fn variable(word: &[u8]) -> Option<&str> {
    let name = word.split(|byte| *byte == b'=').next().unwrap_or_default();
    str::from_utf8(name).ok().filter(|name| check::variable(name).is_ok())
}

/// Adds a variable. A word that is no assignment may be part of a secret that spans lines: the unit is rejected, and
/// the word is not shown, but the variable before it.
fn put_variable(
    entries: &mut Entries,
    unit: &Path,
    word: &[u8],
    before: Option<&str>,
) -> Result<(), CliError> {
    let unit = unit.display();
    let Some(name) = variable(word) else {
        let after = before.map_or_else(String::new, |name| format!(" after {name}"));
        return Err(CliError::new(
            Exit::BadInput,
            format!(
                "an Environment= of {unit} has a word without a variable name{after}; nothing was imported"
            ),
            "put a value with blanks into quotes, \"NAME=a value\"",
        ));
    };
    let at = word.iter().position(|byte| *byte == b'=');
    let Some(at) = at else {
        entries.remove(name);
        entries.leave_out(format!("an Environment= of {unit} has no value; it is left out"));
        return Ok(());
    };
    match expanded(&word[at + 1..], |_| None) {
        Some(value) => entries.put(name.to_owned(), SecretBytes::new(value)),
        None => {
            entries.remove(name);
            entries.leave_out(format!(
                "Environment= {name} of {unit} has a % or ${{}} that only systemd expands; it is left out"
            ));
        }
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

impl Provided {
    /// What `[Container]` of a unit provides. Quadlet drops a value with an escape that does not exist.
    fn of(file: &UnitFile) -> Self {
        let mut provided = Self::default();
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
        let args = file.words("Container", "PodmanArgs", Dialect::Quadlet);
        provided.options = args.iter().filter_map(|arg| variable_option(arg)).collect();
        provided
    }
}

/// An option of podman's that sets a variable or passes a secret, without its value.
fn variable_option(arg: &[u8]) -> Option<String> {
    let name = arg.split(|byte| *byte == b'=').next().unwrap_or_default();
    let known = ["--env", "--env-file", "--secret"].iter().find(|known| name == known.as_bytes());
    let known = known.or_else(|| arg.starts_with(b"-e").then_some(&"-e"))?;
    Some((*known).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn provided(text: &[u8]) -> Provided {
        Provided::of(&UnitFile::parse(text, Dialect::Quadlet).unwrap())
    }

    fn texts(words: &[Vec<u8>]) -> Vec<String> {
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Its last line looks like an assignment; the words before it do not.
    #[test]
    fn put_variable_rejects_a_private_key_over_several_words() {
        let unit = b"[Container]\nEnvironment=KEY=-----BEGIN PRIVATE KEY----- \\\n\
            MC4CAQAwBQYDK2VwBCIEIE== -----END PRIVATE KEY-----\n";
        let mut entries = Entries::default();
        let words = provided(unit).variables;
        let mut put =
            words.iter().map(|word| put_variable(&mut entries, Path::new("u"), word, None));
        let failure = put.find_map(Result::err).unwrap().to_string();
        assert!(failure.starts_with("an Environment= of u has a word"), "{failure}");
        assert!(!failure.contains("MC4") && !failure.contains("BEGIN"), "{failure}");
        let name = b"A=1".as_slice();
        put_variable(&mut Entries::default(), Path::new("u"), name, None).unwrap();
        put_variable(&mut Entries::default(), Path::new("u"), b"PASSED", None).unwrap();
    }

    #[test]
    fn parse_reads_the_container_section_only() {
        let unit = b"[Unit]\nEnvironment=NO=1\n[Container]\n# Environment=NO=2\n Environment = A=1 \\\n; no\n  B=2\n\
            EnvironmentFile=./x.env\nSecret=app--K,type=env,target=K\n[Service]\nEnvironment=NO=3\n";
        let provided = provided(unit);
        assert_eq!(texts(&provided.variables), ["A=1", "B=2"]);
        assert_eq!(texts(&provided.files), ["./x.env"]);
        assert_eq!(texts(&provided.secrets), ["app--K,type=env,target=K"]);
        assert!(provided.options.is_empty());
    }

    #[test]
    fn values_that_are_not_read_are_named() {
        let unit =
            b"[Container]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\nEnvironment=C=\\q\n\
            PodmanArgs=--env D=1 --env-file=x -eE=2 --env-host --secret s --entrypoint x\n";
        let provided = provided(unit);
        assert_eq!(provided.options, ["--env", "--env-file", "-e", "--secret"]);
        assert_eq!(provided.dropped, ["Environment"]);
        assert_eq!(texts(&provided.variables), ["B=2"]);
    }

    proptest! {
        #[test]
        fn words_round_trip_a_quoted_value(value in "[^\0\n\r]{0,20}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let unit = format!("[Container]\nEnvironment=\"A={escaped}\"\n");
            prop_assert_eq!(texts(&provided(unit.as_bytes()).variables), [format!("A={value}")]);
        }
    }
}
