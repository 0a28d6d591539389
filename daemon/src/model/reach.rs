//! Whether a key or a token would open something now.

/// What is known of that without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It would.
    Ready,
    /// It would not.
    Out,
    /// That is not known: why, with what to do.
    Unknown(String),
}
