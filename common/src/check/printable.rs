//! Text made safe for a terminal and for one line of a report.

use std::borrow::Cow;

/// The number of characters of a rejected text that a message shows.
const MAX_EXCERPT: usize = 60;

/// The text with its control characters, bidirectional controls and invisible characters escaped. The escapes
/// are those of JSON, so that JSON stays valid.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, is_unprintable)
}

/// [`printable`] for several lines: newlines are kept.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character != '\n' && is_unprintable(character))
}

/// The beginning of a text, for a message: at most 60 [`printable`] characters.
pub fn excerpt(text: &str) -> String {
    let end = text.char_indices().nth(MAX_EXCERPT).map_or(text.len(), |(at, _)| at);
    let mut shown = printable(&text[..end]).into_owned();
    if end < text.len() {
        shown.push('…');
    }
    shown
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            good if !is_bad(good) => shown.push(good),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            bad => {
                for unit in bad.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Cow::Owned(shown)
}

pub(super) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Marks, embeddings, overrides and isolates of the bidirectional algorithm.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Separators of lines and paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Without a glyph: soft hyphen, zero-width space, word joiner and its like, byte order mark,
            // annotations, tags.
            | '\u{00ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}
