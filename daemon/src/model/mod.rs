//! Values that every layer speaks of: time and references. Pure.

pub mod clock;
pub mod reach;
pub mod reference;
