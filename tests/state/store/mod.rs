//! Store, kinds and restore of registered secrets.

mod kinds;
mod lifecycle;
mod races;
