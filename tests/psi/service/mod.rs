//! psid as a service: what it tells its manager, how it follows a config, a restart that nobody
//! notices, and clients that behave badly.

mod abuse;
mod activation;
mod metrics;
mod notices;
mod reload;
