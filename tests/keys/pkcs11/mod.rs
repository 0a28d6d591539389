//! What every implementation of a trait must do, on the real ones; and what a token does to psid, and
//! psid to a token, in all its states.

mod hang;
mod key;
mod pin;
mod provider;
mod token;
