//! What the Python PSI left is taken over: in place, when psid starts on its state folder for the first
//! time, and from any folder by `psid adopt`. Nothing that it left is changed.

mod command;
pub mod first_start;
mod old_key;
mod old_state;
mod ours;
mod report;
mod values;

pub use command::{Options, adopt};
pub use old_key::{OldKeys, Unwrap};
