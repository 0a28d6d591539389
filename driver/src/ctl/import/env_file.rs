//! Env-files by podman's rules (`ParseFile` in pkg/env/env.go, the same from podman 4.0 to 6.1): a line is a name, `=`
//! and the rest of the line as the value; blanks before the name are removed; `#` begins a comment line.
//!
//! Podman accepts more: a line without `=` names a variable of its own environment, and any text is a name. In a file
//! of secrets such a line usually is part of a value that spans lines, such as a private key. So the whole file is
//! rejected, by the line's number alone: the text may be a secret.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use psi_common::{Exit, SecretBytes, check};

use super::entries::Entries;
use crate::error::CliError;

/// The maximum size of an env-file.
const MAX_BYTES: u64 = 64 << 20;

/// The remedy for a line that is part of a longer value.
const NOT_ONE_LINE: &str = "an env-file has one NAME=VALUE on each line: store a value of several lines with `podman secret \
    create` from a file of its own, then import it with `psictl import podman-secret`";
const CORRECT_IT: &str = "correct the line";

/// A line for which the file is rejected; only its number is kept, because the text may be a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    number: usize,
    why: &'static str,
    remedy: &'static str,
}

/// Reads files one after the other.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Entries, CliError> {
    let mut entries = Entries::default();
    for file in files {
        read(file, &mut entries)?;
    }
    Ok(entries)
}

/// Reads one file.
pub(super) fn read(path: &Path, entries: &mut Entries) -> Result<(), CliError> {
    let text = contents(path)?;
    parse(text.expose_secret(), path, entries).map_err(|BadLine { number, why, remedy }| {
        let path = path.display();
        CliError::new(
            Exit::BadInput,
            format!("line {number} of {path} {why}; nothing was imported"),
            remedy,
        )
    })
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

fn parse(text: &[u8], path: &Path, entries: &mut Entries) -> Result<(), BadLine> {
    for (index, line) in lines(text).enumerate() {
        let number = index + 1;
        let line = without_blanks(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let (name, value) =
            assignment(line).map_err(|(why, remedy)| BadLine { number, why, remedy })?;
        if is_quoted(value) {
            entries.warn(format!(
                "the value of {name} in line {number} of {} is in quotes, which are part of the value, \
                 as for podman",
                path.display()
            ));
        }
        entries.put(name.to_owned(), SecretBytes::new(value.to_vec()));
    }
    Ok(())
}

/// The name and the value of a line, or the problem and its remedy.
fn assignment(line: &[u8]) -> Result<(&str, &[u8]), (&'static str, &'static str)> {
    let Some(at) = line.iter().position(|byte| *byte == b'=') else {
        return Err(("is no assignment", NOT_ONE_LINE));
    };
    let (name, value) = (&line[..at], &line[at + 1..]);
    if name.is_empty() {
        return Err(("has no name before its =", CORRECT_IT));
    }
    if name.starts_with(b"export ") {
        return Err((
            "begins with export, which is part of the name for podman",
            "remove that word",
        ));
    }
    let name = std::str::from_utf8(name).ok().filter(|name| check::variable(name).is_ok());
    let Some(name) = name else {
        return Err(("has no variable name before its =", NOT_ONE_LINE));
    };
    if value.contains(&0) {
        return Err((
            "has a NUL in its value",
            "remove it: neither a variable nor Infisical can hold one",
        ));
    }
    if opens_a_quote(value) {
        return Err(("begins a value in quotes that does not end on it", NOT_ONE_LINE));
    }
    Ok((name, value))
}

/// Lines as Go's `bufio.ScanLines` returns them: without the newline and one carriage return before it.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn without_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|byte| b" \t".contains(byte)).count();
    &line[blanks..]
}

/// Whether a value begins with a quote that does not end.
fn opens_a_quote(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    let Some((quote @ (b'"' | b'\''), rest)) = value.split_first() else { return false };
    !rest.contains(quote)
}

fn is_quoted(value: &[u8]) -> bool {
    let ends = |quote| value.len() > 1 && value.starts_with(&[quote]) && value.ends_with(&[quote]);
    ends(b'"') || ends(b'\'')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs = Vec<(String, Vec<u8>)>;

    fn parsed(text: &[u8]) -> Result<(Pairs, Vec<String>), BadLine> {
        let mut entries = Entries::default();
        parse(text, Path::new("f"), &mut entries)?;
        let list = entries.list.into_iter();
        Ok((list.map(|one| (one.key, one.value.into_exposed())).collect(), entries.warnings))
    }

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    /// From pkg/env/env_test.go and the rules.
    #[test]
    fn parse_takes_the_rest_of_the_line_as_the_value() {
        let text = b"apple=red\n  facebook=red#blue\n\n# c=1\n \t#d=2\ngoogle=\na=b=c\nb= x \r\n\
            q=\"two words\"\napple=green\nlast=no newline";
        let (found, warnings) = parsed(text).unwrap();
        assert_eq!(
            found,
            pairs(&[
                ("apple", "green"),
                ("facebook", "red#blue"),
                ("google", ""),
                ("a", "b=c"),
                ("b", " x "),
                ("q", "\"two words\""),
                ("last", "no newline"),
            ])
        );
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].contains("of q in line 9 of f is in quotes")
                && warnings[1].contains("apple occurs twice")
        );
    }

    /// The error has the line's number and the problem.
    #[test]
    fn parse_rejects_a_file_with_a_line_that_is_no_assignment() {
        for (text, number, why) in [
            (&b"A=1\n=hunter2\n"[..], 2, "has no name before its ="),
            (b"=", 1, "has no name before its ="),
            (b"\xff=1", 1, "has no variable name before its ="),
            (b"A=1\nPASSED\nB=2", 2, "is no assignment"),
            (b"ALL*", 1, "is no assignment"),
            (b"A=1\nexport E=1", 2, "begins with export, which is part of the name for podman"),
            (b"\xef\xbb\xbfA=1", 1, "has no variable name before its ="),
            (b"a.b=1", 1, "has no variable name before its ="),
            (b"1A=1", 1, "has no variable name before its ="),
            (b"A=1\x00", 1, "has a NUL in its value"),
            (b"A='it", 1, "begins a value in quotes that does not end on it"),
            (b"A= \"", 1, "begins a value in quotes that does not end on it"),
        ] {
            let bad = parsed(text).unwrap_err();
            assert_eq!((bad.number, bad.why), (number, why), "{}", text.escape_ascii());
        }
    }

    /// Also the last line of base64, which looks like an assignment.
    #[test]
    fn parse_rejects_a_private_key_over_several_lines() {
        const LAST: &str = "MC4CAQAwBQYDK2VwBCIEIEabcdefghijklmnopqrstuvwxyz0123456789ABCD==";
        for (text, number) in [
            (
                format!(
                    "A=1\nKEY=\"-----BEGIN PRIVATE KEY-----\n{LAST}\n-----END PRIVATE KEY-----\"\n"
                ),
                2,
            ),
            (
                format!(
                    "KEY='-----BEGIN PRIVATE KEY-----\r\n{LAST}\r\n-----END PRIVATE KEY-----'\r\n"
                ),
                1,
            ),
            (format!("KEY=-----BEGIN PRIVATE KEY-----\n{LAST}\n-----END PRIVATE KEY-----\n"), 3),
            (format!("KEY=\"\n-----BEGIN PRIVATE KEY-----\n{LAST}\n"), 1),
            (
                format!("KEY=-----BEGIN PRIVATE KEY-----\\\n{LAST}\\\n-----END PRIVATE KEY-----\n"),
                3,
            ),
        ] {
            let mut entries = Entries::default();
            let bad = parse(text.as_bytes(), Path::new("f"), &mut entries).unwrap_err();
            assert_eq!(bad.number, number, "{text}");
            let message = format!("{} {} {:?}", bad.why, bad.remedy, entries.warnings);
            assert!(!message.contains("BEGIN") && !message.contains(&LAST[..8]), "{message}");
        }
    }

    proptest! {
        #[test]
        fn parse_reads_what_was_written(
            pairs in prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,8}", prop::collection::vec(any::<u8>(), 0..20), 0..8),
            crlf in any::<bool>(),
        ) {
            let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
            let mut text = Vec::new();
            let mut expected = Vec::new();
            for (name, value) in pairs {
                let value: Vec<u8> =
                    value.into_iter().filter(|byte| !b"\n\r\0\"'".contains(byte)).collect();
                text.extend([b" \t".as_slice(), name.as_bytes(), b"=", &value, end].concat());
                expected.push((name, value));
            }
            prop_assert_eq!(parsed(&text).unwrap().0, expected);
        }

        #[test]
        fn keys_are_variables_and_errors_show_nothing_of_the_file(
            lines in prop::collection::vec("[ \t]?[A-Z_a-z0-9+/.\"'-]{0,6}=?[a-z0-9+/=\"' \0]{0,6}", 0..6),
        ) {
            let text = lines.join("\n");
            match parsed(text.as_bytes()) {
                Ok((found, _)) => {
                    for (key, value) in found {
                        prop_assert!(check::variable(&key).is_ok(), "{}", key);
                        prop_assert!(!value.contains(&0));
                    }
                    let assignments = lines.iter().filter(|line| !line.trim_start().is_empty());
                    prop_assert!(assignments.clone().all(|line| line.contains('=')));
                }
                Err(bad) => prop_assert!((1..=lines.len()).contains(&bad.number)),
            }
        }

        #[test]
        fn parse_never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parsed(&text);
        }
    }
}
