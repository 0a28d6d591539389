//! Env-files, in each dialect.

use psi_driver::testing::env_file;

use crate::{Body, choice};

const DIALECTS: [&str; 3] = ["compose", "podman", "dotenv"];

pub(crate) fn open() -> Body {
    Box::new(|input| {
        let (first, text) = choice(input);
        let dialect = DIALECTS[usize::from(first) % DIALECTS.len()];
        match env_file(dialect, text) {
            Ok(found) => found.iter().for_each(|(name, value)| {
                psi_common::check::variable(name).unwrap();
                assert!(!value.contains(&0));
                assert_is_read_again(dialect, name, value);
            }),
            Err((line, message)) => {
                let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
                assert!((1..=lines).contains(&line), "{line} of {lines}: {message}");
                // Each message is one of psictl's own: it has nothing of the text.
                assert!(message.is_ascii() && message.len() < 300, "{message}");
                assert_eq!(env_file(dialect, text), Err((line, message)));
            }
        }
    })
}

/// A value that single quotes can hold in a dialect that has them.
fn assert_is_read_again(dialect: &str, name: &str, value: &[u8]) {
    let is_odd = |byte: &u8| b"'\\\r".contains(byte);
    if dialect == "podman" || value.iter().any(is_odd) {
        return;
    }
    let text = [name.as_bytes(), b"='", value, b"'\n"].concat();
    assert_eq!(env_file(dialect, &text), Ok(vec![(name.to_owned(), value.to_vec())]));
}
