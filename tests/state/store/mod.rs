//! Registering secrets: references and literals, and the way back.

mod kinds;
mod lifecycle;
mod races;
