//! Order of parts in an output.

/// Asserts that the parts are in the text, each after the one before it, and returns what follows the last one.
#[track_caller]
pub fn assert_in_order<'a>(text: &'a str, parts: &[&str]) -> &'a str {
    let mut rest = text;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("'{part}' is not there, or not after the others:\n{text}")
        };
        rest = after;
    }
    rest
}
