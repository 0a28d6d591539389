//! Logins by clouds and clusters, and refused logins.

mod client_secret;
mod cloud_refusals;
mod clouds;
mod outages;
mod service_accounts;
