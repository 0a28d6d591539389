//! Templates of `render`: any text, in which `{{ secret "KEY" }}` is replaced by a value. There is no other expression.

use std::collections::BTreeMap;

use psi_common::{SecretBytes, check};
use zeroize::Zeroizing;

use super::env::quote_for_shell;
use crate::ctl::args::Escape;

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// A template as its parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template<'a>(Vec<Part<'a>>);

#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Secret { key: String, at: Position },
}

/// A place in a template: lines and characters, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Why a template is refused. A template is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateFault {
    pub(crate) at: Position,
    pub(crate) what: String,
    pub(crate) remedy: &'static str,
}

const WRITE_IT: &str = "write {{ secret \"KEY\" }}; there is no other expression";

impl<'a> Template<'a> {
    /// Parses a template.
    pub(super) fn parse(text: &'a str) -> Result<Self, TemplateFault> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(OPEN) {
            if at > 0 {
                parts.push(Part::Text(&rest[..at]));
            }
            let position = position(text, text.len() - rest.len() + at);
            let expression = &rest[at + OPEN.len()..];
            let fault =
                |what: &str, remedy| TemplateFault { at: position, what: what.into(), remedy };
            let (key, length) = secret(expression).map_err(|what| fault(what, WRITE_IT))?;
            check::key(&key)
                .map_err(|error| fault(&error.to_string(), "write a key of the workload"))?;
            parts.push(Part::Secret { key, at: position });
            rest = &expression[length..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest));
        }
        Ok(Self(parts))
    }

    /// The keys whose values it needs, each with its first place.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, Position)> {
        self.0.iter().filter_map(|part| match part {
            Part::Secret { key, at } => Some((key.as_str(), *at)),
            Part::Text(_) => None,
        })
    }

    /// The text with the values.
    pub(super) fn fill(
        &self,
        values: &BTreeMap<String, SecretBytes>,
        escape: Escape,
    ) -> Result<SecretBytes, TemplateFault> {
        let mut parts: Vec<SecretBytes> = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            parts.push(match part {
                Part::Text(text) => SecretBytes::new(text.as_bytes().to_vec()),
                Part::Secret { key, at } => {
                    let fault =
                        |(what, remedy): (String, _)| TemplateFault { at: *at, what, remedy };
                    let value = values.get(key).ok_or_else(|| fault(unknown(key)))?;
                    escaped(value, escape).map_err(|what| {
                        let what = format!("the value of {} {what}", check::excerpt(key));
                        fault((
                            what,
                            "choose another --escape, or render the key as a file of its own",
                        ))
                    })?
                }
            });
        }
        // Allocated at once: a buffer that grows leaves copies of secrets behind.
        let mut whole = Vec::with_capacity(parts.iter().map(SecretBytes::len).sum());
        parts.iter().for_each(|part| whole.extend_from_slice(part.expose_secret()));
        Ok(SecretBytes::new(whole))
    }
}

/// The fault of a key that no workload has.
pub(super) fn unknown(key: &str) -> (String, &'static str) {
    (
        format!("there is no key '{}' in the workload", check::excerpt(key)),
        "correct the key, or add its source to the workload; `psictl secrets` lists the keys",
    )
}

/// The key of an expression after its `{{`, and the length to the end of its `}}`.
fn secret(expression: &str) -> Result<(String, usize), &'static str> {
    const NO_EXPRESSION: &str = "{{ is not followed by secret \"KEY\" }}";
    let is_blank = |c| matches!(c, ' ' | '\t');
    let name = expression.trim_start_matches(is_blank);
    let argument = name.strip_prefix("secret").ok_or(NO_EXPRESSION)?;
    let quoted = argument.trim_start_matches(is_blank).strip_prefix('"').ok_or(NO_EXPRESSION)?;
    let mut key = String::new();
    let mut chars = quoted.char_indices();
    let end = loop {
        match chars.next().ok_or("the quotes of the key do not end")? {
            (_, '\n') => return Err("the quotes of the key do not end on their line"),
            (at, '"') => break at,
            (_, '\\') => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => key.push(c),
                _ => return Err("a backslash in a key stands before a quote or a backslash"),
            },
            (_, c) => key.push(c),
        }
    };
    let after = quoted[end + 1..].trim_start_matches(is_blank);
    let rest = after.strip_prefix(CLOSE).ok_or("the key is not followed by }}")?;
    Ok((key, expression.len() - rest.len()))
}

fn position(text: &str, at: usize) -> Position {
    let before = &text[..at];
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    Position { line, column }
}

/// A value as the text around it needs it.
fn escaped(value: &SecretBytes, escape: Escape) -> Result<SecretBytes, &'static str> {
    let bytes = value.expose_secret();
    let mut out = Zeroizing::new(Vec::with_capacity(6 * bytes.len() + 2));
    match escape {
        Escape::None => out.extend_from_slice(bytes),
        Escape::Shell if bytes.contains(&0) => return Err("has a NUL, which no shell can hold"),
        Escape::Shell => quote_for_shell(&mut out, bytes),
        Escape::Json => {
            let text =
                std::str::from_utf8(bytes).map_err(|_| "is not UTF-8, which JSON cannot hold")?;
            // It cannot fail: the target is a vector, and the value a text. The quotes are the template's.
            let _ = serde_json::to_writer(&mut *out, text);
            out.pop();
            out.remove(0);
        }
    }
    Ok(SecretBytes::new(std::mem::take(&mut *out)))
}

/// Fills a template for the fuzz target.
#[cfg(feature = "testing")]
pub(in crate::ctl) fn fill_for_tests(
    text: &str,
    escape: Escape,
    values: &BTreeMap<String, SecretBytes>,
) -> Result<Vec<u8>, TemplateFault> {
    Ok(Template::parse(text)?.fill(values, escape)?.expose_secret().to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str, value: &[u8], escape: Escape) -> Result<Vec<u8>, TemplateFault> {
        let values = BTreeMap::from([("KEY".to_owned(), SecretBytes::new(value.to_vec()))]);
        Ok(Template::parse(text)?.fill(&values, escape)?.into_exposed())
    }

    #[test]
    fn fill_replaces_the_expressions_and_nothing_else() {
        for (text, expected) in [
            ("", ""),
            ("plain { } }} {\"a\":{\"b\":1}}", "plain { } }} {\"a\":{\"b\":1}}"),
            ("{{ secret \"KEY\" }}", "v"),
            ("{{secret\"KEY\"}}{{\tsecret  \"KEY\"\t}}x", "vvx"),
            ("a={{ secret \"KEY\" }}\nä={{ secret \"KEY\" }}", "a=v\nä=v"),
            ("{ {{ secret \"KEY\" }} }", "{ v }"),
        ] {
            assert_eq!(filled(text, b"v", Escape::None).unwrap(), expected.as_bytes(), "{text}");
        }
        // A value is no template.
        let value = b"{{ secret \"KEY\" }}";
        assert_eq!(filled("{{ secret \"KEY\" }}", value, Escape::None).unwrap(), value);
    }

    #[test]
    fn fill_escapes_for_the_file() {
        let value = b"it's \"x\"\\\n";
        let text = "{{ secret \"KEY\" }}";
        let escaped = |escape| String::from_utf8(filled(text, value, escape).unwrap()).unwrap();
        assert_eq!(escaped(Escape::None), "it's \"x\"\\\n");
        assert_eq!(escaped(Escape::Json), "it's \\\"x\\\"\\\\\\n");
        assert_eq!(escaped(Escape::Shell), "'it'\\''s \"x\"\\\n'");
        for (value, escape) in [(&b"\xff"[..], Escape::Json), (b"a\0", Escape::Shell)] {
            let fault = filled(&format!("\n {text}"), value, escape).unwrap_err();
            assert_eq!((fault.at.line, fault.at.column), (2, 2));
            assert!(fault.what.starts_with("the value of KEY "), "{}", fault.what);
        }
    }

    #[test]
    fn parse_names_the_line_and_the_column_of_a_fault() {
        for (text, line, column, what) in [
            ("{{", 1, 1, "{{ is not followed"),
            ("a\nä {{ other }}", 2, 3, "{{ is not followed"),
            ("{{ secret KEY }}", 1, 1, "{{ is not followed"),
            ("{{ secret \"KEY }}", 1, 1, "the quotes of the key do not end"),
            ("{{ secret \"KEY\n\" }}", 1, 1, "the quotes of the key do not end on"),
            ("{{ secret \"KEY\" }", 1, 1, "the key is not followed by }}"),
            ("{{ secret \"KEY\" | upper }}", 1, 1, "the key is not followed by }}"),
            ("{{ secret \"K\\n\" }}", 1, 1, "a backslash in a key"),
            ("{{ secret \"\" }}", 1, 1, "the key '' is empty"),
            ("{{ secret \"KEY\" }} {{ secret \"NONE\" }}", 1, 20, "there is no key 'NONE'"),
        ] {
            let fault = filled(text, b"v", Escape::None).unwrap_err();
            assert_eq!((fault.at.line, fault.at.column), (line, column), "{text}: {}", fault.what);
            assert!(fault.what.starts_with(what), "{text}: {}", fault.what);
        }
    }

    proptest! {
        #[test]
        fn text_without_an_expression_is_unchanged(text in "[^{]{0,20}|[a-z}{ ]{0,1}[^{]{0,9}") {
            prop_assert_eq!(filled(&text, b"v", Escape::Json).unwrap(), text.into_bytes());
        }

        #[test]
        fn keys_are_read_as_written(key in "[^\\x00-\\x1f\\x7f-\\u{9f}]{1,12}") {
            prop_assume!(check::key(&key).is_ok());
            let quoted = key.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!("x{{{{ secret \"{quoted}\" }}}}y");
            let template = Template::parse(&text).unwrap();
            prop_assert_eq!(template.keys().next().unwrap().0, key);
        }

        #[test]
        fn parse_never_panics(text in "[{} secrt\"KEYä\\\\\n]{0,40}") {
            let _ = filled(&text, b"v", Escape::Shell);
        }
    }
}
