//! Env-files by podman's rules (`ParseFile` in pkg/env/env.go, the same from podman 4.0 to 6.1): a line is a name, `=`
//! and the rest of the line as the value; blanks before the name are removed; `#` begins a comment line.
//!
//! Podman accepts more: a line without `=` names a variable of its own environment, and any text is a name. In a file
//! of secrets such a line usually is part of a value that spans lines, such as a private key. So the whole file is
//! rejected, by the line's number alone: the text may be a secret.

use psi_common::SecretBytes;

use super::cursor::bad_line;
use super::{Assignment, BadLine, Fault, holdable, variable};

/// The remedy for a line that is part of a longer value.
const NOT_ONE_LINE: &str = "an env-file of podman's has one NAME=VALUE on each line: put a value of several lines into \
    quotes and import the file with --format compose";

pub(super) fn parse(text: &[u8]) -> Result<Vec<Assignment>, BadLine> {
    let mut found = Vec::new();
    for (index, text) in lines(text).enumerate() {
        let line = index + 1;
        let text = without_blanks(text);
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        let (name, value) = assignment(text).map_err(bad_line(line))?;
        let value = SecretBytes::new(value.to_vec());
        found.push(Assignment { line, name: name.to_owned(), value });
    }
    Ok(found)
}

/// The name and the value of a line, or the problem and its remedy.
fn assignment(line: &[u8]) -> Result<(&str, &[u8]), Fault> {
    let Some(at) = line.iter().position(|byte| *byte == b'=') else {
        return Err(("is no assignment", NOT_ONE_LINE));
    };
    let (name, value) = (&line[..at], &line[at + 1..]);
    if name.starts_with(b"export ") {
        return Err((
            "begins with export, which is part of the name for podman",
            "remove that word",
        ));
    }
    let name = variable(str::from_utf8(name).unwrap_or("\u{fffd}"))?;
    holdable(value)?;
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

pub(super) fn is_quoted(value: &[u8]) -> bool {
    let ends = |quote| value.len() > 1 && value.starts_with(&[quote]) && value.ends_with(&[quote]);
    ends(b'"') || ends(b'\'')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use psi_common::check;

    use super::super::{Entries, add};
    use super::*;
    use crate::ctl::args::EnvFileFormat::Podman;

    type Pairs = Vec<(String, Vec<u8>)>;

    fn parsed(text: &[u8]) -> Result<(Pairs, Vec<String>), BadLine> {
        let mut entries = Entries::default();
        add(text, Path::new("f"), Podman, &mut entries)?;
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
            let bad = parsed(text.as_bytes()).unwrap_err();
            assert_eq!(bad.number, number, "{text}");
            let message = format!("{} {}", bad.why, bad.remedy);
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
