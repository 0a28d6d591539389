//! The violations that exist today, by name. A list may only shrink: delete an entry with its
//! violation, add none.

/// Imports against the layers, and circles.
pub(crate) const LAYERS: &[&str] = &[];

/// Files of more than 400 lines.
pub(crate) const LONG_FILES: &[&str] = &[];

/// Functions of more than 60 lines.
pub(crate) const LONG_FUNCTIONS: &[&str] = &[];

/// Functions of more than five parameters.
pub(crate) const WIDE_FUNCTIONS: &[&str] = &[];

/// Names of types that two modules of a crate have.
pub(crate) const TYPE_NAMES: &[&str] = &[];

/// Words that a module should be free of.
pub(crate) const WORDS: &[&str] = &[];

/// Imports that a module's own list does not allow.
pub(crate) const IMPORTS: &[&str] = &[];
