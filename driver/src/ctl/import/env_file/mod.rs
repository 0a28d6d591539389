//! Env-files in three dialects: podman's, Docker Compose's, and that of the programs that read `.env` files.
//!
//! In each, psictl accepts less than the program: a line that is no assignment of a value to a variable refuses the
//! whole file. In a file of secrets such a line usually is part of a value that spans lines, such as a private key.
//! Only the number of the line is reported, because the text may be a secret.

mod compose;
mod cursor;
mod dotenv;
mod expand;
mod podman;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use psi_common::{Exit, SecretBytes, check};

use super::entries::Entries;
use crate::ctl::args::EnvFileFormat;
use crate::error::CliError;

/// The maximum size of an env-file.
const MAX_BYTES: u64 = 64 << 20;

/// The remedy for a line that cannot be part of the file as it is.
const CORRECT_IT: &str = "correct the line";

/// An assignment of a value to a variable.
#[derive(Debug)]
struct Assignment {
    /// The line on which it begins.
    line: usize,
    name: String,
    value: SecretBytes,
}

/// A line for which the file is refused; only its number is kept, because the text may be a secret.
#[derive(Debug, PartialEq, Eq)]
struct BadLine {
    number: usize,
    why: &'static str,
    remedy: &'static str,
}

/// Why a line is refused, and the remedy.
type Fault = (&'static str, &'static str);

/// Reads files one after the other.
pub(super) fn read_all(files: &[PathBuf], format: EnvFileFormat) -> Result<Entries, CliError> {
    let mut entries = Entries::default();
    for file in files {
        read(file, format, &mut entries)?;
    }
    Ok(entries)
}

/// Reads one file.
pub(super) fn read(
    path: &Path,
    format: EnvFileFormat,
    entries: &mut Entries,
) -> Result<(), CliError> {
    let text = contents(path)?;
    add(text.expose_secret(), path, format, entries).map_err(|BadLine { number, why, remedy }| {
        let path = path.display();
        CliError::new(
            Exit::BadInput,
            format!("line {number} of {path} {why}; nothing was imported"),
            remedy,
        )
    })
}

/// Adds the assignments of a file's text to those of the files before it.
fn add(
    text: &[u8],
    path: &Path,
    format: EnvFileFormat,
    entries: &mut Entries,
) -> Result<(), BadLine> {
    for Assignment { line, name, value } in assignments(text, format, entries)? {
        if format == EnvFileFormat::Podman && podman::is_quoted(value.expose_secret()) {
            entries.warn(format!(
                "the value of {name} in line {line} of {} is in quotes, which are part of the value, as for podman; \
                 with --format compose or dotenv they are not",
                path.display()
            ));
        }
        entries.put(name, value);
    }
    Ok(())
}

/// The assignments of a file; `earlier` has those of the files before it.
fn assignments(
    text: &[u8],
    format: EnvFileFormat,
    earlier: &Entries,
) -> Result<Vec<Assignment>, BadLine> {
    match format {
        EnvFileFormat::Podman => podman::parse(text),
        EnvFileFormat::Compose => compose::parse(as_text(text)?, earlier),
        EnvFileFormat::Dotenv => dotenv::parse(as_text(text)?),
    }
}

/// The text without a byte order mark. Neither Compose's nor another program's values can have other bytes than UTF-8.
fn as_text(text: &[u8]) -> Result<&str, BadLine> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    std::str::from_utf8(text).map_err(|error| {
        let before = &text[..error.valid_up_to()];
        let number = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let remedy = "save the file as UTF-8, or import it with --format podman";
        BadLine { number, why: "is not UTF-8", remedy }
    })
}

/// The name before an assignment's sign. The text is not shown: it may be a line of a secret.
fn variable(name: &str) -> Result<&str, Fault> {
    if name.is_empty() {
        return Err(("has no name before its =", CORRECT_IT));
    }
    check::variable(name).map(|()| name).map_err(|_| {
        (
            "has no variable name before its =",
            "a name is letters, digits and underscores; if the line is part of a longer value, put that value into \
             quotes",
        )
    })
}

/// A value that a variable can hold.
fn holdable(value: &[u8]) -> Result<(), Fault> {
    if value.contains(&0) {
        let remedy = "remove it: neither a variable nor Infisical can hold one";
        return Err(("has a NUL in its value", remedy));
    }
    Ok(())
}

/// The bytes of a file, or of stdin.
pub(super) fn contents(path: &Path) -> Result<SecretBytes, CliError> {
    let failed =
        |cause| CliError::io(&format!("reading {}", path.display()), &cause, "check the path");
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut text)
    } else {
        let file = File::open(path).map_err(failed)?;
        // Allocated at once: a buffer that grows leaves copies of secrets behind.
        let length = file.metadata().map_or(0, |about| about.len().min(MAX_BYTES));
        text.reserve_exact(usize::try_from(length).unwrap_or_default() + 1);
        file.take(MAX_BYTES + 1).read_to_end(&mut text)
    };
    let text = SecretBytes::new(text);
    read.map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(CliError::new(
            Exit::BadInput,
            format!("{} is larger than 64 MiB", path.display()),
            "import it in parts",
        ));
    }
    Ok(text)
}

/// The variables of a file, or the number of the line that refuses it and the message.
#[cfg(any(test, feature = "testing"))]
pub(in crate::ctl) type Parsed = Result<Vec<(String, Vec<u8>)>, (usize, String)>;

/// Parses a file for the fuzz targets and for the comparison with the programs of the dialects.
#[cfg(any(test, feature = "testing"))]
pub(in crate::ctl) fn parse_for_tests(text: &[u8], format: EnvFileFormat) -> Parsed {
    let mut entries = Entries::default();
    add(text, Path::new("f"), format, &mut entries)
        .map_err(|bad| (bad.number, format!("{}; {}", bad.why, bad.remedy)))?;
    Ok(entries.list.into_iter().map(|one| (one.key, one.value.expose_secret().to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::{EnvFileFormat, parse_for_tests};

    /// The variables of a file whose values are texts.
    pub(super) fn texts(text: &str, format: EnvFileFormat) -> Vec<(String, String)> {
        let found = parse_for_tests(text.as_bytes(), format).unwrap();
        found.into_iter().map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect()
    }

    /// The value of a file's only assignment, `A=TEXT`.
    pub(super) fn value_of(text: &str, format: EnvFileFormat) -> String {
        let found = texts(&format!("A={text}"), format);
        assert_eq!((found.len(), &*found[0].0), (1, "A"), "{text}");
        found[0].1.clone()
    }
}
