//! `psid migrate --from psi`: reads the Python PSI's state, and takes over its values. Its own files stay unchanged.

pub mod old_key;
pub mod old_state;
pub mod placement;
pub mod target_cache;

pub use old_state::is_old;
