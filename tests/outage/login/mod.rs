//! Logins by clouds and clusters, and refused logins.

mod certificates;
mod client_secret;
mod cloud_refusals;
mod clouds;
mod outages;
mod service_accounts;
mod static_tokens;
mod token_files;
