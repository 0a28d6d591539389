//! The form of a typed or pasted secret, checked before it is sent: the token or the provider would refuse a
//! malformed PIN or client secret, and count the refusal.

/// What is wrong with a PIN or a client secret, to follow "the PIN in FILE". Trailing blanks are removed
/// before.
pub fn fault(secret: &[u8]) -> Option<&'static str> {
    let quotes =
        [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('„', '“'), ('‘', '’'), ('«', '»')];
    if secret.is_empty() {
        return Some("is empty");
    }
    if secret.starts_with(b"\xff\xfe") || secret.starts_with(b"\xfe\xff") {
        return Some("is UTF-16: write it as UTF-8");
    }
    if secret.starts_with(b"\xef\xbb\xbf") {
        return Some("begins with a byte order mark: write it as UTF-8 without one");
    }
    if secret.contains(&0) {
        return Some("contains a NUL byte: write it as UTF-8, without a NUL");
    }
    if secret.iter().any(|byte| b"\n\r".contains(byte)) {
        return Some("has more than one line");
    }
    let Ok(text) = std::str::from_utf8(secret) else { return Some("is not UTF-8") };
    if text.chars().any(char::is_control) {
        return Some("contains a control character");
    }
    let ends = (text.chars().next(), text.chars().next_back());
    let is_quoted = |(open, close)| text.chars().count() > 1 && ends == (Some(open), Some(close));
    quotes.into_iter().any(is_quoted).then_some("is in quotes: write it without them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_rejects_what_editors_and_shells_add() {
        for (secret, message) in [
            (b"".as_slice(), "empty"),
            (b"\xff\xfe1\x002\x00", "UTF-16"),
            (b"\xfe\xff\x001\x002", "UTF-16"),
            (b"1\x002\x00", "NUL"),
            (b"\xef\xbb\xbf1234", "byte order mark"),
            (b"1234\n5678", "more than one line"),
            (b"1234\r5678", "more than one line"),
            (b"\n1234", "more than one line"),
            (b"\"1234\"", "quotes"),
            (b"'1234'", "quotes"),
            ("“1234”".as_bytes(), "quotes"),
            (b"12\x1b34", "control"),
            (b"12\t34", "control"),
            (b"\xe4bc", "not UTF-8"),
        ] {
            let found = fault(secret);
            assert!(found.is_some_and(|found| found.contains(message)), "{secret:?}: {found:?}");
        }
    }

    #[test]
    fn fault_accepts_valid_secrets() {
        for secret in
            ["1234", "12 34", "\"", "it's", "\"a", "pässword", "a'b\"c", "st.4f…", " 1234"]
        {
            assert_eq!(fault(secret.as_bytes()), None, "{secret}");
        }
    }
}
