//! Whether a key or a token could decrypt now.

/// Whether it could decrypt, by what is known without an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It could.
    Ready,
    /// It could not.
    Out,
    /// Unknown: the reason and the remedy.
    Unknown(String),
}
