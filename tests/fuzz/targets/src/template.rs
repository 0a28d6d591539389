//! Templates of `psictl render`.

use std::collections::BTreeMap;

use psi_driver::testing::template;

use crate::{Body, choice};

pub(crate) fn open() -> Body {
    Box::new(|input| {
        // The value, and after a NUL the template.
        let (first, rest) = choice(input);
        let at = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
        let (value, text) = rest.split_at(at);
        let Ok(text) = std::str::from_utf8(text) else { return };
        let escape = ["none", "json", "shell"][usize::from(first) % 3];
        let values = || BTreeMap::from([("KEY".to_owned(), value.to_vec())]);
        match template(text, escape, values()) {
            Ok(filled) if !text.contains("{{") => assert_eq!(filled, text.as_bytes()),
            Ok(_) => {}
            Err((line, column, message)) => {
                assert!(text.contains("{{"), "{text:?}");
                let place = text.lines().nth(line - 1).unwrap();
                assert!((1..=place.chars().count()).contains(&column), "{line}:{column}");
                assert!(!message.contains(char::is_control), "{message:?}");
            }
        }
        if let Ok(json) = template("\"{{ secret \"KEY\" }}\"", "json", values()) {
            let read: String = serde_json::from_slice(&json).unwrap();
            assert_eq!(read.as_bytes(), value);
        }
    })
}
