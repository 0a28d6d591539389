//! The token as psi's users meet it: secrets that are sealed to it, what psid tells of it, and the check
//! of all that lies between.

mod lookup;
mod preflight;
mod status;
mod store;
