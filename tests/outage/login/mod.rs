//! Logins by clouds and clusters, and refused logins.

mod certificates;
mod client_secret;
mod cloud_refusals;
mod clouds;
mod expiry;
mod matrix;
mod outages;
mod rotation;
mod service_accounts;
mod static_tokens;
mod token_files;
