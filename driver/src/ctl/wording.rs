//! Counts, ages and lists of names in messages.

use std::fmt::Display;
use std::time::Duration;

/// `1 secret`, `2 secrets`.
pub(super) fn counted<N: Copy + Display + From<u8> + PartialEq>(count: N, noun: &str) -> String {
    if count == N::from(1) { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// At most `max` of the names, and how many more there are.
pub(super) fn named<'a>(names: impl IntoIterator<Item = &'a str>, max: usize) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let more = names.len().saturating_sub(max);
    let shown = names[..names.len().min(max)].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// An age in its largest unit.
pub(super) fn ago(age: Duration) -> String {
    match age.as_secs() {
        0 => "just now".into(),
        seconds @ 1..120 => format!("{seconds} s ago"),
        seconds @ 120..7_200 => format!("{} min ago", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_a_plural_and_lists_an_end() {
        let names: Vec<String> = (0..12).map(|number| format!("n{number}")).collect();
        let shown = named(names.iter().map(String::as_str), 10);
        assert!(shown.ends_with("n8, n9 and 2 more"), "{shown}");
        assert_eq!(
            (named(["a"], 1), counted(1_u64, "secret"), counted(2_usize, "secret")),
            ("a".into(), "1 secret".into(), "2 secrets".into())
        );
    }
}
