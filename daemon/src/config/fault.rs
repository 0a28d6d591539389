//! Errors of the config, and the checks that several tables share.

use toml::Spanned;

/// What is wrong with the config, and where.
#[derive(Debug)]
pub(super) struct Fault {
    /// The byte offset in the text; none: the fault has no position.
    pub(super) at: Option<usize>,
    pub(super) what: String,
}

impl Fault {
    /// A fault at a byte offset.
    pub(super) fn at(offset: usize, what: impl Into<String>) -> Self {
        Self { at: Some(offset), what: what.into() }
    }

    /// A fault of a value.
    pub(super) fn of<T>(value: &Spanned<T>, what: impl Into<String>) -> Self {
        Self::at(value.span().start, what)
    }

    /// The fault's line in the text, counted from 1.
    pub(super) fn line_in(&self, text: &str) -> Option<usize> {
        self.at.map(|at| text[..at.min(text.len())].matches('\n').count() + 1)
    }
}

/// The name of a systemd credential; it becomes a file name in the credentials directory.
pub(super) fn credential_name(name: &Spanned<String>, key: &str) -> Result<String, Fault> {
    let text = name.get_ref();
    if text.is_empty() || text.starts_with('.') || text.contains('/') {
        return Err(Fault::of(name, format!("{key} is not a credential name")));
    }
    Ok(text.clone())
}
