//! A position in the text of an env-file.

use super::{Assignment, BadLine, Fault};

/// The rest of a text, and the number of its first line.
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a str,
    pub(super) line: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// Passes this number of bytes.
    pub(super) fn advance(&mut self, bytes: usize) -> &'a str {
        let (passed, rest) = self.rest.split_at(bytes);
        self.line += passed.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        passed
    }

    /// The rest of the line, without the newline at its end; the cursor stays.
    pub(super) fn line_text(&self) -> &'a str {
        self.rest.split('\n').next().unwrap_or_default()
    }

    /// Passes the line with its newline.
    pub(super) fn next_line(&mut self) {
        let length = self.line_text().len();
        self.advance((length + 1).min(self.rest.len()));
    }

    /// Passes the characters that `is_passed` accepts.
    pub(super) fn skip(&mut self, is_passed: impl Fn(char) -> bool) {
        let rest = self.rest.trim_start_matches(is_passed);
        self.advance(self.rest.len() - rest.len());
    }

    /// Passes what may follow a closing quote on its line.
    pub(super) fn end_of_quoted(&mut self, is_blank: impl Fn(char) -> bool) -> Result<(), Fault> {
        let after = self.line_text().trim_start_matches(is_blank);
        if !after.is_empty() && !after.starts_with('#') {
            let remedy =
                "write a quote in the value as the dialect has it, and a # before a comment";
            return Err(("has text after the closing quote of its value", remedy));
        }
        self.next_line();
        Ok(())
    }
}

/// The assignments of a text, each read by `assignment`, which also gets those before it. `is_passed`: the characters
/// between them, beside comments.
pub(super) fn assignments(
    text: &str,
    is_passed: impl Fn(char) -> bool,
    assignment: impl Fn(&mut Cursor, &[Assignment]) -> Result<Assignment, Fault>,
) -> Result<Vec<Assignment>, BadLine> {
    let mut cursor = Cursor::new(text);
    let mut found: Vec<Assignment> = Vec::new();
    loop {
        cursor.skip(&is_passed);
        if cursor.rest.is_empty() {
            return Ok(found);
        }
        if cursor.rest.starts_with('#') {
            cursor.next_line();
            continue;
        }
        let line = cursor.line;
        let next = assignment(&mut cursor, &found).map_err(bad_line(line))?;
        found.push(next);
    }
}

/// A fault of a line.
pub(super) fn bad_line(number: usize) -> impl Fn(Fault) -> BadLine {
    move |(why, remedy)| BadLine { number, why, remedy }
}
