//! Values that every layer speaks of: time and references. Pure.

pub(crate) mod clock;
pub(crate) mod reach;
pub(crate) mod reference;
