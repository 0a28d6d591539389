//! `psid migrate --from psi`: what the Python PSI left is taken over. Nothing that it left is changed.

mod command;
mod old_key;
mod old_state;
mod ours;
mod report;
mod values;

pub use command::{Options, adopt};
pub use old_state::is_old;
