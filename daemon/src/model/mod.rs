//! Values of all layers: times and references. Pure.

pub(crate) mod clock;
pub(crate) mod principal;
pub(crate) mod reach;
pub(crate) mod reference;
