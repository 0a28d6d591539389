//! `psid migrate --from psi`: what the Python PSI left is taken over. Nothing that it left is changed.

pub mod old_key;
pub mod old_state;
pub mod ours;
pub mod values;

pub use old_state::is_old;
