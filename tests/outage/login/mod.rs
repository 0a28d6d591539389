//! Logins by clouds and clusters, and refused logins.

mod clouds;
mod outages;
mod refusals;
mod refused;
mod service_accounts;
