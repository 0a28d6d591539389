//! `.env` files as the programs that read them agree: the npm package dotenv, Node's `--env-file` and python-dotenv.
//!
//! There is no specification, and each of them reads some values as no other does: a `#` in a value without quotes, escapes,
//! `${NAME}`. psictl cannot know which program the file is for, so such a line is refused, with a way to write it that
//! all read alike.

use psi_common::{SecretBytes, SecretString};

use super::cursor::{Cursor, assignments};
use super::{Assignment, BadLine, CORRECT_IT, Fault, holdable, variable};

const IN_QUOTES: &str = "put the value into single quotes; the programs that read .env files disagree about it otherwise";
const AS_PODMAN: &str = "the programs that read .env files disagree about it: import this value from a file of its own, \
     with --format podman or compose";

pub(super) fn parse(text: &str) -> Result<Vec<Assignment>, BadLine> {
    let is_passed = |c| is_blank(c) || matches!(c, '\n' | '\r');
    assignments(text, is_passed, |cursor, _| assignment(cursor))
}

fn assignment(cursor: &mut Cursor) -> Result<Assignment, Fault> {
    let line = cursor.line;
    let after_export = cursor.rest.strip_prefix("export");
    if after_export.is_some_and(|after| after.starts_with(is_blank)) {
        cursor.advance("export".len());
        cursor.skip(is_blank);
    }
    let at = cursor.line_text().find('=').ok_or((
        "is no assignment",
        "write NAME=VALUE; a value of several lines is in quotes, which begin after the = and end after the last line",
    ))?;
    let name = variable(cursor.advance(at).trim_end_matches(is_blank))?.to_owned();
    cursor.advance(1);
    // Node takes a tab for a part of the value.
    cursor.skip(|c| c == ' ');
    let value = match cursor.rest.chars().next() {
        Some(quote @ ('\'' | '"')) => quoted(cursor, quote)?,
        _ => {
            let value = unquoted(cursor.line_text())?;
            cursor.next_line();
            value
        }
    };
    if value.expose_secret().contains("${") {
        return Err(("has a ${, which some programs expand and others do not", AS_PODMAN));
    }
    let value = SecretBytes::from(value);
    holdable(value.expose_secret())?;
    Ok(Assignment { line, name, value })
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// A value without quotes: to the end of the line, or to a `#` after a blank.
fn unquoted(line: &str) -> Result<SecretString, Fault> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let value = match line.find('#') {
        Some(at) if !line[..at].ends_with(' ') => {
            return Err(("has a # in a value without quotes", IN_QUOTES));
        }
        Some(at) => &line[..at],
        None => line,
    };
    let value = value.trim_end_matches(' ');
    if value.starts_with('`') {
        return Err((
            "has a value in backticks, which only some programs read as quotes",
            IN_QUOTES,
        ));
    }
    // Some programs take them for the end of the line, others for blanks.
    let is_odd = |c: char| (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}');
    let is_space = |c: char| c.is_whitespace() || c == '\u{feff}';
    if value.contains(is_odd) || value.trim_matches(is_space) != value {
        return Err((
            "has a control character or an odd blank in a value without quotes",
            IN_QUOTES,
        ));
    }
    Ok(SecretString::new(value.to_owned()))
}

/// A value in quotes, which may span lines. Only `\n` in double quotes is an escape for all programs.
fn quoted(cursor: &mut Cursor, quote: char) -> Result<SecretString, Fault> {
    let inner = &cursor.rest[1..];
    let unclosed = (
        "begins a value in quotes that do not end",
        "write the closing quote, or correct the line",
    );
    let length = inner.find(quote).ok_or(unclosed)?;
    let mut text = String::with_capacity(length);
    let mut chars = inner[..length].chars().chain([quote]).peekable();
    let mut fault = None;
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            (_, None) => {}
            ('\r', Some('\n')) => {}
            ('\r', _) => fault = Some(("has a carriage return in its value", CORRECT_IT)),
            ('\\', Some('n')) if quote == '"' => {
                chars.next();
                text.push('\n');
            }
            ('\\', Some(next)) if is_escape(*next, quote) => {
                let what = "has a backslash that only some programs read as an escape";
                fault = Some((what, AS_PODMAN));
            }
            (c, _) => text.push(c),
        }
    }
    let text = SecretString::new(text);
    if let Some(fault) = fault {
        return Err(fault);
    }
    cursor.advance(length + 2);
    cursor.end_of_quoted(|c| is_blank(c) || c == '\r')?;
    Ok(text)
}

/// Whether some program takes a backslash before this character for an escape.
fn is_escape(next: char, quote: char) -> bool {
    let escapes = if quote == '"' { "\\'\"abfnrtv" } else { "\\'" };
    escapes.contains(next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::ctl::args::EnvFileFormat::Dotenv;
    use crate::ctl::import::env_file::parse_for_tests;
    use crate::ctl::import::env_file::tests::{texts, value_of};

    fn parsed(text: &str) -> Vec<(String, String)> {
        texts(text, Dotenv)
    }

    fn value(text: &str) -> String {
        value_of(text, Dotenv)
    }

    #[test]
    fn parse_reads_what_all_programs_read_alike() {
        for (text, expected) in [
            ("b", "b"),
            ("", ""),
            ("  two words  # c", "two words"),
            ("p$1$word", "p$1$word"),
            ("it's", "it's"),
            ("a\\nb", "a\\nb"),
            ("'a # $b \\n \"'", "a # $b \\n \""),
            ("\"a\\nb\" # c", "a\nb"),
            ("\"x\\y '\"", "x\\y '"),
            ("'line 1\r\nline 2'\r\n", "line 1\nline 2"),
            ("\"line 1\nline 2\n\"", "line 1\nline 2\n"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
        let text = "\u{feff}# c\r\nA = 1\r\n\nexport B='2' #\nA=3";
        assert_eq!(parsed(text), [("A".into(), "3".into()), ("B".into(), "2".into())]);
    }

    #[test]
    fn parse_refuses_what_programs_read_differently() {
        for (text, number, why) in [
            ("A=1\nPASSED", 2, "is no assignment"),
            ("A: 1", 1, "is no assignment"),
            ("A=1\nB=a#b", 2, "has a # in a value"),
            ("A= # c", 1, "has a # in a value"),
            ("A=x\t# c", 1, "has a # in a value"),
            ("A=x\t", 1, "has a control character or an odd blank"),
            ("A=\t'x'", 1, "has a control character or an odd blank"),
            ("A=`x`", 1, "has a value in backticks"),
            ("A=x\u{a0}", 1, "has a control character or an odd blank"),
            ("A=x\u{2028}y", 1, "has a control character or an odd blank"),
            ("A=x\ry", 1, "has a control character or an odd blank"),
            ("A='x\ry'", 1, "has a carriage return"),
            ("A='it\\'s'", 1, "has a backslash"),
            ("A=\"a\\tb\"", 1, "has a backslash"),
            ("A='a\\\\b'", 1, "has a backslash"),
            ("A='x${Y}'", 1, "has a ${"),
            ("A=\"x\nB=1", 1, "begins a value in quotes"),
            ("A='x' y", 1, "has text after the closing quote"),
            ("a.b=1", 1, "has no variable name"),
        ] {
            let (line, message) = parse_for_tests(text.as_bytes(), Dotenv).unwrap_err();
            assert_eq!(line, number, "{text:?}: {message}");
            assert!(message.starts_with(why), "{text:?}: {message}");
        }
    }

    proptest! {
        #[test]
        fn values_in_single_quotes_are_read_back(text in "[^\0\r'\\\\]{0,24}") {
            prop_assume!(!text.contains("${"));
            prop_assert_eq!(value(&format!("'{text}'")), text);
        }

        #[test]
        fn parse_never_panics(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_for_tests(&text, Dotenv);
        }
    }
}
