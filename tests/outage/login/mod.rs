//! Logins: by what a cloud or a cluster vouches for, and what becomes of those that are refused.

mod certificates;
mod clouds;
mod outages;
mod refusals;
mod refused;
mod service_accounts;
mod static_tokens;
mod token_files;
