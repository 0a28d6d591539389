//! Logins by what a cloud or a cluster vouches for, instead of by a client secret.

pub(crate) mod machine;

mod clouds;
mod outages;
mod refusals;
mod service_accounts;
