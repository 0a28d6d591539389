//! Text with JavaScript's rules.

/// `String.prototype.trim`: unlike Rust's, it removes a byte order mark and keeps NEL.
pub fn js_trim(text: &str) -> &str {
    let is_blank = |c: char| c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}');
    text.trim_matches(is_blank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trim_removes_byte_order_marks_and_keeps_nel() {
        assert_eq!(js_trim("\u{feff} a\u{a0}\u{2028}\n"), "a");
        assert_eq!(js_trim("\u{85}a\u{85}"), "\u{85}a\u{85}");
    }
}
