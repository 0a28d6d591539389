//! Docker Compose's env-files (compose-go's `dotenv`, 2.0 and later): `NAME=VALUE` or `NAME: VALUE`, an optional `export`,
//! values without quotes to the end of the line or to a ` #`, values in quotes over several lines.
//!
//! Stricter than Compose: a name without a value, which Compose takes from its own environment, text after a closing
//! quote, which Compose reads as the next assignment, and octal escapes, which its versions read differently, are
//! refused.

use psi_common::{SecretBytes, SecretString};

use super::cursor::{Cursor, assignments};
use super::expand::expand;
use super::{Assignment, BadLine, Entries, Fault, holdable, variable};

const NO_ASSIGNMENT: Fault = (
    "is no assignment",
    "write NAME=VALUE; a value of several lines is in quotes, which begin after the = and end after the last line",
);

pub(super) fn parse(text: &str, earlier: &Entries) -> Result<Vec<Assignment>, BadLine> {
    assignments(text, char::is_whitespace, |cursor, found| assignment(cursor, found, earlier))
}

fn assignment(
    cursor: &mut Cursor,
    found: &[Assignment],
    earlier: &Entries,
) -> Result<Assignment, Fault> {
    let line = cursor.line;
    skip_export(cursor);
    let at = cursor.line_text().find(['=', ':']).ok_or(NO_ASSIGNMENT)?;
    let name = variable(cursor.advance(at).trim_end())?.to_owned();
    cursor.advance(1);
    cursor.skip(is_blank);
    let of = |name: &str| known(name, found, earlier);
    let value = match cursor.rest.chars().next() {
        Some('\'') => quoted(cursor, '\'')?,
        Some('"') => expand(escaped(quoted(cursor, '"')?.expose_secret())?.expose_secret(), &of)?,
        _ => {
            let text = cursor.line_text();
            let text = text.split_once(" #").map_or(text, |(value, _)| value);
            let value = expand(text.trim_end(), &of)?;
            cursor.next_line();
            value
        }
    };
    let value = SecretBytes::from(value);
    holdable(value.expose_secret())?;
    Ok(Assignment { line, name, value })
}

/// The value that a reference has. Files that were read before have precedence, as for Compose.
fn known(name: &str, found: &[Assignment], earlier: &Entries) -> Option<SecretString> {
    let before = earlier.list.iter().find(|entry| entry.key == name).map(|entry| &entry.value);
    let here = || found.iter().rev().find(|one| one.name == name).map(|one| &one.value);
    let value = before.or_else(here)?;
    SecretString::from_utf8(value.expose_secret().to_vec()).ok()
}

/// Blanks of a line, as compose-go's `isSpace`.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

fn skip_export(cursor: &mut Cursor) {
    let after = cursor.rest.strip_prefix("export");
    if after.is_some_and(|after| after.starts_with(['\t', '\x0c', '\r', ' '])) {
        cursor.advance("export".len());
        cursor.skip(is_blank);
    }
}

/// The text in quotes: a backslash before the quote that ends it stands for that quote; each other one stays.
fn quoted(cursor: &mut Cursor, quote: char) -> Result<SecretString, Fault> {
    let inner = &cursor.rest[1..];
    // Allocated at once: a buffer that grows leaves copies of secrets behind.
    let length = quoted_length(inner, quote).ok_or((
        "begins a value in quotes that do not end",
        "write the closing quote; in a value that begins with a quote, put it all into the other quotes",
    ))?;
    let mut text = String::with_capacity(length);
    let mut is_escaped = false;
    for c in inner[..length].chars() {
        if c == '\\' && !is_escaped {
            is_escaped = true;
            continue;
        }
        if is_escaped && c != quote {
            text.push('\\');
        }
        is_escaped = false;
        text.push(c);
    }
    let text = SecretString::new(text);
    cursor.advance(length + 2);
    cursor.end_of_quoted(is_blank)?;
    Ok(text)
}

/// The bytes before the closing quote.
fn quoted_length(inner: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    inner
        .char_indices()
        .find(|(_, c)| {
            let ends = *c == quote && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            ends
        })
        .map(|(at, _)| at)
}

/// The escapes of double quotes. An escaped dollar sign becomes two, which [`expand`] reads as one.
fn escaped(text: &str) -> Result<SecretString, Fault> {
    let mut out = String::with_capacity(2 * text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied().filter(|_| c == '\\');
        let replaced = match next {
            Some('a') => "\x07",
            Some('b') => "\x08",
            Some('f') => "\x0c",
            Some('n') => "\n",
            Some('r') => "\r",
            Some('t') => "\t",
            Some('v') => "\x0b",
            Some('$') => "$$",
            Some('"') => "\"",
            Some('\\') => "\\",
            Some('0') => {
                drop(SecretString::new(out));
                return Err((
                    "has the escape \\0 in double quotes",
                    "put the value into single quotes, where no backslash has a meaning",
                ));
            }
            _ => {
                out.push(c);
                continue;
            }
        };
        chars.next();
        out.push_str(replaced);
    }
    Ok(SecretString::new(out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::ctl::args::EnvFileFormat::Compose;
    use crate::ctl::import::env_file::parse_for_tests;
    use crate::ctl::import::env_file::tests::{texts, value_of};

    fn parsed(text: &str) -> Vec<(String, String)> {
        texts(text, Compose)
    }

    fn value(text: &str) -> String {
        value_of(text, Compose)
    }

    #[test]
    fn parse_reads_values_as_compose_does() {
        for (text, expected) in [
            ("b", "b"),
            ("", ""),
            ("  two words  \t", "two words"),
            ("a#b", "a#b"),
            ("a # b", "a"),
            ("a\t# b", "a\t# b"),
            ("# b", "# b"),
            ("a=b:c", "a=b:c"),
            ("'it\\'s # $A \\n'", "it's # $A \\n"),
            ("'\\\\'", "\\\\"),
            ("\"say \\\"x\\\" # y\" # z", "say \"x\" # y"),
            ("\"a\\tb\\\\n\\q\\$A$$\"", "a\tb\\n\\q$A$"),
            ("\"line 1\n# line 2\n\"", "line 1\n# line 2\n"),
            ("'line 1\r\nline 2' \r\n", "line 1\r\nline 2"),
            ("\"\"", ""),
            ("it's", "it's"),
            ("b\\n", "b\\n"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn parse_reads_whole_files() {
        let text = "\u{feff}# c\r\n\r\n  A=1\r\nexport\tB=2\nC : 3\nD = \"$A${B:-x}\" \n\n#\nE='\n'\nA=${A}1";
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected =
            [pair("A", "11"), pair("B", "2"), pair("C", "3"), pair("D", "12"), pair("E", "\n")];
        assert_eq!(parsed(text), expected);
        assert!(parsed("").is_empty() && parsed("\n # only\n").is_empty());
    }

    #[test]
    fn parse_refuses_a_file_by_the_number_of_the_line() {
        for (text, number, why) in [
            ("A=1\nPASSED\n", 2, "is no assignment"),
            ("A=1\n\nexport B\nC=1", 3, "is no assignment"),
            ("=1", 1, "has no name"),
            ("A B=1", 1, "has no variable name"),
            ("a.b=1", 1, "has no variable name"),
            ("1A=1", 1, "has no variable name"),
            ("A='x\ny\nB=2", 1, "begins a value in quotes that do not end"),
            ("A=\"x\\\"", 1, "begins a value in quotes that do not end"),
            ("A='x'y", 1, "has text after the closing quote"),
            ("A='x' B=1", 1, "has text after the closing quote"),
            ("A=pa$word", 1, "refers to a variable"),
            ("B='\n'\nA=\"pa${word}\"", 3, "refers to a variable"),
            ("A=${", 1, "has a ${"),
            ("A=\"\\012\"", 1, "has the escape"),
            ("A='\0'", 1, "has a NUL"),
            (
                "K=-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----",
                2,
                "is no assignment",
            ),
        ] {
            let (line, message) = parse_for_tests(text.as_bytes(), Compose).unwrap_err();
            assert_eq!(line, number, "{text:?}: {message}");
            assert!(message.starts_with(why), "{text:?}: {message}");
        }
        let (line, message) = parse_for_tests(b"A=1\nB=\xff", Compose).unwrap_err();
        assert!(line == 2 && message.starts_with("is not UTF-8"), "{message}");
    }

    proptest! {
        #[test]
        fn values_in_quotes_are_read_back(text in "[^\0]{0,24}") {
            let double = text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            prop_assert_eq!(&value(&format!("\"{double}\"")), &text);
            // Single quotes hold all but a backslash before a quote, and two at the end.
            if !text.contains(['\'', '\\']) {
                prop_assert_eq!(&value(&format!("'{text}' # {double}").replace('\n', " ")), &text.replace('\n', " "));
            }
        }

        #[test]
        fn keys_are_variables_and_errors_name_a_line(
            lines in prop::collection::vec("[ \t]?[A-Z_a-z0-9.\"'-]{0,6}[=:]?[a-z0-9$={}\"' \\\\#]{0,8}", 0..6),
        ) {
            match parse_for_tests(lines.join("\n").as_bytes(), Compose) {
                Ok(found) => for (key, value) in found {
                    prop_assert!(psi_common::check::variable(&key).is_ok() && !value.contains(&0));
                },
                Err((line, _)) => prop_assert!((1..=lines.len()).contains(&line)),
            }
        }
    }
}
