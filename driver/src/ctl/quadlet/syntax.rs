//! The syntax of unit files, as quadlet (podman's pkg/systemd/parser, 5.0 to 6.1) and systemd read it.

use std::str;

/// The program that reads a file: the two differ in details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Quadlet,
    Systemd,
}

/// The assignments of a unit file, and of the drop-ins that are merged into it.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnitFile {
    assignments: Vec<Assignment>,
}

#[derive(Clone, Debug)]
struct Assignment {
    section: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A line for which quadlet refuses a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is neither a section, KEY=VALUE nor a comment")]
pub(crate) struct SyntaxError {
    line: usize,
}

impl UnitFile {
    /// Parses a file. systemd ignores a line that it does not understand, quadlet refuses the file.
    pub(crate) fn parse(text: &[u8], dialect: Dialect) -> Result<Self, SyntaxError> {
        let mut file = Self::default();
        let mut section: Option<Vec<u8>> = None;
        for (line, text) in logical_lines(text, dialect) {
            if let Some(name) = section_name(&text) {
                section = Some(name.to_vec());
                continue;
            }
            match (assignment(&text), &section) {
                (Some((key, value)), Some(section)) => file.assignments.push(Assignment {
                    section: section.clone(),
                    key: key.to_vec(),
                    value: value.to_vec(),
                }),
                _ if dialect == Dialect::Systemd => {}
                _ => return Err(SyntaxError { line }),
            }
        }
        Ok(file)
    }

    /// Adds the assignments of a drop-in.
    pub(crate) fn merge(&mut self, drop_in: Self) {
        self.assignments.extend(drop_in.assignments);
    }

    /// Every value of a key; an empty one resets the list.
    pub(crate) fn values<'a>(&'a self, section: &'a str, key: &'a str) -> Vec<&'a [u8]> {
        let mut values: Vec<&[u8]> = Vec::new();
        for value in self.of(section, key) {
            match value.is_empty() {
                true => values.clear(),
                false => values.push(value),
            }
        }
        values
    }

    /// The last value of a key, without the quotes around it.
    pub(crate) fn last<'a>(&'a self, section: &'a str, key: &'a str) -> Option<&'a [u8]> {
        let value = self.of(section, key).last()?;
        let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some(inner.unwrap_or(value))
    }

    /// The words of every value. A value with an escape that does not exist is dropped, as by its reader.
    pub(crate) fn words(&self, section: &str, key: &str, dialect: Dialect) -> Vec<Vec<u8>> {
        let values = self.values(section, key).into_iter();
        values.filter_map(|value| words(value, dialect)).flatten().collect()
    }

    fn of<'a>(&'a self, section: &'a str, key: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let of_key = self
            .assignments
            .iter()
            .filter(move |one| one.section == section.as_bytes() && one.key == key.as_bytes());
        of_key.map(|one| one.value.as_slice())
    }
}

/// The lines without comments, each with the number of its last physical line. A backslash at the end continues a line.
fn logical_lines(text: &[u8], dialect: Dialect) -> Vec<(usize, Vec<u8>)> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let physical: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let mut lines = Vec::new();
    let mut started: Option<Vec<u8>> = None;
    for (number, line) in physical.iter().enumerate() {
        let line = trim(line);
        let is_empty_end = line.is_empty() && dialect == Dialect::Systemd && started.is_some();
        if matches!(line.first(), None | Some(b'#' | b';')) && !is_empty_end {
            continue;
        }
        let (part, continues) = match line.strip_suffix(b"\\") {
            Some(part) => (part, number + 1 < physical.len()),
            None => (line, false),
        };
        let mut whole = started.take().unwrap_or_default();
        whole.extend_from_slice(part);
        if continues {
            // systemd replaces the backslash and the newline by a blank, quadlet by nothing.
            if dialect == Dialect::Systemd {
                whole.push(b' ');
            }
            started = Some(whole);
        } else {
            lines.push((number + 1, whole));
        }
    }
    // Quadlet drops a continuation that only comments follow.
    if let (Some(last), Dialect::Systemd) = (started, dialect) {
        lines.push((physical.len(), last));
    }
    lines
}

fn trim(line: &[u8]) -> &[u8] {
    str::from_utf8(line).map_or_else(|_| line.trim_ascii(), |text| text.trim().as_bytes())
}

/// `[NAME]`, and blanks after it.
fn section_name(line: &[u8]) -> Option<&[u8]> {
    let name = line.strip_prefix(b"[")?;
    let end = name.iter().position(|byte| *byte == b']')?;
    let is_last = name[end + 1..].iter().all(|byte| matches!(byte, b' ' | b'\t'));
    (is_last && end > 0 && !name[..end].contains(&b'[')).then_some(&name[..end])
}

fn assignment(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    let key = line[..at].trim_ascii_end();
    (!key.is_empty()).then(|| (key, line[at + 1..].trim_ascii_start()))
}

/// The words of a value: quotes group a word, and C escapes are decoded inside and outside of them. `None` if it has an
/// escape that does not exist.
pub(crate) fn words(value: &[u8], dialect: Dialect) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = value.split(|byte| *byte == 0).next().unwrap_or_default();
    while let Some((word, after)) = first_word(rest)? {
        // Quadlet takes an empty word for the end.
        if word.is_empty() && dialect == Dialect::Quadlet {
            break;
        }
        words.push(word);
        rest = after;
    }
    Some(words)
}

/// A word, and what follows it.
type Split<'a> = (Vec<u8>, &'a [u8]);

/// The first word, if there is one; the outer `None` is an escape that does not exist.
fn first_word(value: &[u8]) -> Option<Option<Split<'_>>> {
    let Some(start) = value.iter().position(|byte| !is_separator(*byte)) else {
        return Some(None);
    };
    let mut rest = &value[start..];
    let mut word = Vec::new();
    let mut quote = None;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (*byte, quote) {
            // A backslash at the end is dropped.
            (b'\\', _) if after.is_empty() => {}
            (b'\\', _) => rest = &after[unescape(after, &mut word)?..],
            (byte, Some(mark)) if byte == mark => quote = None,
            (byte @ (b'"' | b'\''), None) => quote = Some(byte),
            (byte, None) if is_separator(byte) => break,
            (byte, _) => word.push(byte),
        }
    }
    Some(Some((word, rest)))
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Decodes the escape after a backslash, and returns its length.
fn unescape(rest: &[u8], word: &mut Vec<u8>) -> Option<usize> {
    let first = *rest.first()?;
    let plain = match first {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b's' => b' ',
        b'\\' | b'"' | b'\'' => first,
        b'x' => return coded(rest, 1..3, 16, word),
        b'u' => return coded(rest, 1..5, 16, word),
        b'U' => return coded(rest, 1..9, 16, word),
        b'0'..=b'7' => return coded(rest, 0..3, 8, word),
        _ => return None,
    };
    word.push(plain);
    Some(1)
}

/// Decodes a character from digits. Quadlet writes each as UTF-8, also the one of `\xff`.
fn coded(
    rest: &[u8],
    digits: std::ops::Range<usize>,
    radix: u32,
    word: &mut Vec<u8>,
) -> Option<usize> {
    let text = str::from_utf8(rest.get(digits.clone())?).ok()?;
    let is_digits = text.chars().all(|digit| digit.is_digit(radix));
    let number = u32::from_str_radix(text, radix).ok().filter(|_| is_digits)?;
    let limit = if radix == 8 { 0xff } else { u32::from(char::MAX) };
    if number == 0 || number > limit {
        return None;
    }
    // A surrogate has no encoding.
    let character = char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
    word.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(digits.end)
}

/// The word as systemd expands it; `None` if that needs a variable or a specifier that `specifier` does not know.
pub(crate) fn expanded(value: &[u8], specifier: impl Fn(u8) -> Option<String>) -> Option<Vec<u8>> {
    let mut expanded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'%', [b'%', after @ ..]) | (b'$', [b'$', after @ ..]) => after,
            (b'%', [name, after @ ..]) => {
                expanded.extend(specifier(*name)?.as_bytes());
                rest = after;
                continue;
            }
            (b'%', []) | (b'$', [b'{', ..]) => return None,
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

    fn texts(words: Vec<Vec<u8>>) -> Vec<String> {
        words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    fn quadlet(value: &str) -> Option<Vec<String>> {
        words(value.as_bytes(), Dialect::Quadlet).map(texts)
    }

    #[test]
    fn words_are_split_as_by_quadlet() {
        for (value, expected) in [
            ("A=1 B=2", vec!["A=1", "B=2"]),
            (r#""A=two words" 'B=it is "so"'"#, vec!["A=two words", r#"B=it is "so""#]),
            (r#"A="two words" C"#, vec!["A=two words", "C"]),
            (r#"A=\"x\" B=a\sb"#, vec![r#"A="x""#, "B=a b"]),
            (r"A=\x41\102\u00e4\U0001F600", vec!["A=ABä😀"]),
            (r"A=\xe4\ud800", vec!["A=ä\u{fffd}"]),
            (r#"A="open"#, vec!["A=open"]),
            (r"A=end\", vec!["A=end"]),
            ("  \t", vec![]),
            (r#"A="" '' B"#, vec!["A="]),
            ("A\0B C", vec!["A"]),
        ] {
            assert_eq!(quadlet(value).unwrap(), expected, "{value}");
        }
        for value in [r"A=\q", r"A=\x4", r"A=\000", r"A=\777", r"A=\U00110000"] {
            assert_eq!(quadlet(value), None, "{value}");
        }
        let empty = words(br#"A "" B"#, Dialect::Systemd).map(texts);
        assert_eq!(empty.unwrap(), ["A", "", "B"]);
    }

    #[test]
    fn lines_are_continued_as_by_each_program() {
        let text = b"[Container]\n Secret = a\\\n# a comment\n\nb \\\n  c \nSecret=d\\";
        let of = |dialect| {
            let file = UnitFile::parse(text, dialect).unwrap();
            texts(file.values("Container", "Secret").into_iter().map(<[u8]>::to_vec).collect())
        };
        assert_eq!(of(Dialect::Quadlet), ["ab c", "d"]);
        assert_eq!(of(Dialect::Systemd), ["a ", "d"]);
    }

    #[test]
    fn empty_value_resets_the_list_and_the_last_one_loses_its_quotes() {
        let text = b"[A]\nK=1\nK=\nK=2\n[B]\nK=3\n[A]\nK=\"4\"\n";
        let file = UnitFile::parse(text, Dialect::Quadlet).unwrap();
        assert_eq!(file.values("A", "K"), [b"2".as_slice(), b"\"4\""]);
        assert_eq!(file.last("A", "K"), Some(b"4".as_slice()));
    }

    #[test]
    fn parse_reports_the_line_that_quadlet_refuses() {
        for (text, line) in
            [("[A]\nK=1\nnonsense\n", 3), ("K=1\n", 1), ("[A]\n=x\n", 2), ("[]\n", 1), ("[A\n", 1)]
        {
            let error = UnitFile::parse(text.as_bytes(), Dialect::Quadlet).unwrap_err();
            assert_eq!(error, SyntaxError { line }, "{text}");
            UnitFile::parse(text.as_bytes(), Dialect::Systemd).unwrap();
        }
    }

    #[test]
    fn expanded_knows_the_given_specifiers_only() {
        let expand = |value: &str| {
            let known = |name| (name == b'i').then(|| "one".to_owned());
            expanded(value.as_bytes(), known).map(|text| String::from_utf8(text).unwrap())
        };
        assert_eq!(expand("100%% $$HOME $HOME %i").unwrap(), "100% $HOME $HOME one");
        for value in ["%h/x", "50%", "a${HOME}b"] {
            assert_eq!(expand(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            for dialect in [Dialect::Quadlet, Dialect::Systemd] {
                let text = [b"[A]\nK=".as_slice(), &text].concat();
                if let Ok(file) = UnitFile::parse(&text, dialect) {
                    for word in file.words("A", "K", dialect) {
                        let _ = expanded(&word, |_| None);
                    }
                }
            }
        }
    }
}
