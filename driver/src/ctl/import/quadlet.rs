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
}

/// Reads units one after the other.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Entries, CliError> {
    let mut entries = Entries::default();
    let mut secrets = None;
    for file in files {
        let text = env_file::contents(file)?;
        let provided = parse(text.expose_secret());
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
    let Some(named) = expanded(named) else {
        let unit = unit.display();
        entries.warn(format!(
            "an EnvironmentFile= of {unit} has a specifier or variable that only systemd expands; it is left out"
        ));
        return Ok(());
    };
    let path = Path::new(OsStr::from_bytes(&named));
    let path = unit.parent().map_or_else(|| path.to_owned(), |directory| directory.join(path));
    env_file::read(&path, entries)
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
        entries.warn(format!("an Environment= of {unit} has no value; it is left out"));
        return Ok(());
    };
    match expanded(&word[at + 1..]) {
        Some(value) => entries.put(name.to_owned(), SecretBytes::new(value)),
        None => entries.warn(format!(
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
        entries.warn(format!("a Secret= of {unit} has a specifier or variable that only systemd expands; it is left out"));
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

fn parse(text: &[u8]) -> Provided {
    let mut provided = Provided::default();
    let mut is_container = false;
    for line in lines(text) {
        let line = line.trim_ascii();
        if line.starts_with(b"[") {
            is_container = line == b"[Container]";
            continue;
        }
        let Some(at) = line.iter().position(|byte| *byte == b'=').filter(|_| is_container) else {
            continue;
        };
        let (key, value) = (line[..at].trim_ascii_end(), line[at + 1..].trim_ascii_start());
        let list = match key {
            b"Environment" => &mut provided.variables,
            b"EnvironmentFile" => &mut provided.files,
            b"Secret" => &mut provided.secrets,
            _ => continue,
        };
        if value.is_empty() {
            list.clear();
        }
        list.extend(words(value));
    }
    provided
}

/// Lines without comments; a backslash at the end continues a line (systemd.syntax(7)).
fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut continues = false;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if matches!(line.trim_ascii_start().first(), Some(b'#' | b';')) {
            continue;
        }
        let (part, next_continues) = match line.strip_suffix(b"\\") {
            Some(part) => (part, true),
            None => (line, false),
        };
        match lines.last_mut().filter(|_| continues) {
            Some(last) => {
                last.push(b' ');
                last.extend(part);
            }
            None => lines.push(part.to_vec()),
        }
        continues = next_continues;
    }
    lines
}

/// The words of a value: quotes group a word, and C escapes are decoded inside and outside of them
/// (`extract_first_word` of systemd, which quadlet follows, with RELAX, UNQUOTE and CUNESCAPE).
fn words(value: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut rest = value;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (*byte, quote) {
            (b'\\', _) => {
                let word = word.get_or_insert_default();
                let length = unescape(rest, word);
                if length == 0 {
                    word.push(b'\\');
                }
                rest = &rest[length..];
            }
            (byte, Some(mark)) if byte == mark => quote = None,
            (byte @ (b'"' | b'\''), None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (b' ' | b'\t' | b'\r', None) => words.extend(word.take()),
            (byte, _) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

/// Decodes the escape after a backslash and returns its length; 0 if it is no escape.
fn unescape(rest: &[u8], word: &mut Vec<u8>) -> usize {
    let Some(first) = rest.first() else { return 0 };
    let plain = match first {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b's' => b' ',
        b'\\' | b'"' | b'\'' => *first,
        b'x' => return coded(rest, 1, 2, 16, word),
        b'u' => return coded(rest, 1, 4, 16, word),
        b'U' => return coded(rest, 1, 8, 16, word),
        b'0'..=b'7' => return coded(rest, 0, 3, 8, word),
        _ => return 0,
    };
    word.push(plain);
    1
}

/// Decodes a byte (`x`, octal) or a character (`u`, `U`) from a fixed number of digits.
fn coded(rest: &[u8], skip: usize, digits: usize, radix: u32, word: &mut Vec<u8>) -> usize {
    let text = rest.get(skip..skip + digits).and_then(|digits| std::str::from_utf8(digits).ok());
    let plain = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let number = plain.and_then(|text| u32::from_str_radix(text, radix).ok());
    // systemd rejects NUL.
    let Some(number) = number.filter(|number| *number != 0) else { return 0 };
    match (digits, u8::try_from(number), char::from_u32(number)) {
        (2 | 3, Ok(byte), _) => word.push(byte),
        (4 | 8, _, Some(character)) => {
            word.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        _ => return 0,
    }
    skip + digits
}

/// The word as systemd expands it; `None` if the result depends on more than the word.
fn expanded(value: &[u8]) -> Option<Vec<u8>> {
    let mut expanded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'%', [b'%', after @ ..]) | (b'$', [b'$', after @ ..]) => after,
            (b'%', _) | (b'$', [b'{', ..]) => return None,
            _ => after,
        };
        expanded.push(*byte);
    }
    Some(expanded)
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
        let words = parse(unit).variables;
        let mut put = words.iter().map(|word| put_variable(&mut entries, Path::new("u"), word));
        let failure = put.find_map(Result::err).unwrap().to_string();
        assert!(failure.starts_with("an Environment= of u has a word"), "{failure}");
        assert!(!failure.contains("MC4") && !failure.contains("BEGIN"), "{failure}");
        let name = b"A=1".as_slice();
        put_variable(&mut Entries::default(), Path::new("u"), name).unwrap();
        put_variable(&mut Entries::default(), Path::new("u"), b"PASSED").unwrap();
    }

    #[test]
    fn words_are_split_as_by_systemd() {
        for (value, expected) in [
            ("A=1 B=2", vec!["A=1", "B=2"]),
            (r#""A=two words" 'B=it is "so"'"#, vec!["A=two words", r#"B=it is "so""#]),
            (r#"A="two words" C"#, vec!["A=two words", "C"]),
            (r#"A=\"x\" B=a\sb"#, vec![r#"A="x""#, "B=a b"]),
            (r"A=\x41\102\u00e4\q", vec!["A=ABä\\q"]),
            (r#"A="open"#, vec!["A=open"]),
            ("  \t", vec![]),
            (r#"A="" ''"#, vec!["A=", ""]),
        ] {
            assert_eq!(texts(&words(value.as_bytes())), expected, "{value}");
        }
    }

    #[test]
    fn parse_reads_the_container_section_only() {
        let unit = b"[Unit]\nEnvironment=NO=1\n[Container]\n# Environment=NO=2\n Environment = A=1 \\\n; no\n  B=2\n\
            EnvironmentFile=./x.env\nSecret=app--K,type=env,target=K\n[Service]\nEnvironment=NO=3\n";
        let provided = parse(unit);
        assert_eq!(texts(&provided.variables), ["A=1", "B=2"]);
        assert_eq!(texts(&provided.files), ["./x.env"]);
        assert_eq!(texts(&provided.secrets), ["app--K,type=env,target=K"]);
        let provided = parse(b"[Container]\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2");
        assert_eq!(texts(&provided.variables), ["B=2"]);
    }

    #[test]
    fn expanded_rejects_specifiers_and_variables() {
        assert_eq!(expanded(b"100%% $$HOME $HOME").unwrap(), b"100% $HOME $HOME");
        for value in ["%h/x", "50%", "a${HOME}b"] {
            assert_eq!(expanded(value.as_bytes()), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn words_round_trip_a_quoted_value(value in "[^\0\n\r]{0,20}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let unit = format!("[Container]\nEnvironment=\"A={escaped}\"\n");
            prop_assert_eq!(texts(&parse(unit.as_bytes()).variables), [format!("A={value}")]);
        }

        #[test]
        fn parse_never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = [b"[Container]\nEnvironment=".as_slice(), &text].concat();
            for word in parse(&text).variables {
                let _ = expanded(&word);
            }
        }
    }
}
