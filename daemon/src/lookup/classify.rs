//! Classifies data that podman was given as a reference or a literal. Pure.
//!
//! Nothing that resembles a reference becomes a literal: a container would get the JSON as its password.

use serde_json::Value;

use crate::model::reference::without_blanks;

/// The form of data.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A JSON object with a string member `provider`: its value.
    Reference(String),
    /// Almost a reference: the reason why it is none.
    Mistake(String),
    /// Anything else.
    Literal,
}

/// Classifies data by its form.
pub(super) fn look(data: &[u8]) -> Look {
    if let Some(text) = from_utf16(data) {
        let is_meant = !matches!(look(text.as_bytes()), Look::Literal);
        return if is_meant { Look::Mistake("it is UTF-16".into()) } else { Look::Literal };
    }
    let text = without_blanks(data);
    if !text.starts_with(b"{") {
        return Look::Literal;
    }
    match serde_json::from_slice::<Value>(text) {
        Ok(object) => match object.get("provider").and_then(Value::as_str) {
            Some(provider) => Look::Reference(provider.to_owned()),
            None => Look::Literal,
        },
        Err(why) if has_word(text, b"provider") => {
            Look::Mistake(format!("it begins as a reference and is no JSON: {why}"))
        }
        Err(_) => Look::Literal,
    }
}

/// The text of UTF-16 data, which some editors and shells write.
fn from_utf16(data: &[u8]) -> Option<String> {
    let unit = match data {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return None,
    };
    let units = data.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    Some(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

/// Whether a text contains a word, in any case.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.windows(word.len()).enumerate().any(|(at, found)| {
        found.eq_ignore_ascii_case(word)
            && !is_letter(at.checked_sub(1).and_then(|before| text.get(before)))
            && !is_letter(text.get(at + word.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REFERENCE: &str = r#"{"provider":"infisical","project":"p","path":"/","key":"K"}"#;

    fn kind(data: &[u8]) -> &'static str {
        match look(data) {
            Look::Reference(_) => "reference",
            Look::Mistake(_) => "mistake",
            Look::Literal => "literal",
        }
    }

    fn utf16(text: &str) -> Vec<u8> {
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
    }

    #[test]
    fn look_classifies_each_form() {
        for (text, expected) in [
            (REFERENCE, "reference"),
            ("\u{feff}{\"provider\":\"a\"}", "reference"),
            (" \r\n\t\u{a0}\u{feff} {\"provider\":\"a\"}\n", "reference"),
            ("{\"provider\":\"infisicl\"}", "reference"),
            ("{\"provider\":\"a\",\"key\":1}", "reference"),
            ("{\"provider\":\"a\",}", "mistake"),
            ("{'provider':'infisical'}", "mistake"),
            ("{provider: infisical}", "mistake"),
            ("{\"Provider\":\"infisical\"", "mistake"),
            ("{\"provider\":\"a\"} x", "mistake"),
            ("{\"provider\":\"a\"}\0", "mistake"),
            ("{\u{201c}provider\u{201d}: \u{201c}infisical\u{201d}}", "mistake"),
            ("{{ .provider }}", "mistake"),
            ("{\"provider\":1}", "literal"),
            ("{\"key\":\"provider\"}", "literal"),
            ("{\"providers\":", "literal"),
            ("{}", "literal"),
            ("{", "literal"),
            ("[{\"provider\":\"a\"}]", "literal"),
            ("s3cret", "literal"),
            ("provider", "literal"),
            ("", "literal"),
        ] {
            assert_eq!(kind(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(kind(b"{\"provider\":\"\xff\"}"), "mistake");
        assert_eq!(kind(b"\xff{\"provider\":\"a\"}"), "literal");
        let deep = format!("{{\"provider\":{}", "[".repeat(1_000));
        assert_eq!(kind(deep.as_bytes()), "mistake");
        for (text, expected) in [(REFERENCE, "mistake"), ("s3cret", "literal")] {
            assert_eq!(kind(&utf16(text)), expected);
        }
    }

    proptest! {
        #[test]
        fn look_never_panics_and_needs_a_brace_for_a_reference(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let found = kind(&data);
            let has_brace = data.contains(&b'{');
            prop_assert!(has_brace || found == "literal");
            let _ = kind(&[b"{\"provider\":\"", &data[..], b"\"}"].concat());
        }

        /// A slip of the pen: one character less, one more, or another one. Whoever loses the brace or the
        /// word means something else.
        #[test]
        fn reference_with_one_typo_is_never_a_literal(at in 0..REFERENCE.len(), how in 0..3, slip in any::<char>()) {
            let mut text = REFERENCE.to_owned();
            match how {
                0 => drop(text.remove(at)),
                1 => text.insert(at, slip),
                _ => text.replace_range(at..=at, slip.encode_utf8(&mut [0; 4])),
            }
            let means_it = text.trim_start().starts_with('{') && has_word(text.as_bytes(), b"provider");
            // Of a JSON object, the name of the member decides.
            let is_json = serde_json::from_str::<Value>(&text).is_ok();
            prop_assert!(!means_it || is_json || kind(text.as_bytes()) != "literal", "{text:?}");
        }

        #[test]
        fn object_with_a_provider_is_a_reference(provider in any::<String>(), members in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4), blanks in "[ \t\r\n\u{feff}]{0,4}") {
            let mut object: serde_json::Map<_, _> = members.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
            object.insert("provider".into(), Value::from(provider.as_str()));
            let data = format!("{blanks}{}", Value::Object(object));
            prop_assert_eq!(look(data.as_bytes()), Look::Reference(provider));
        }
    }
}
