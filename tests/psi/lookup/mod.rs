//! Lookups that a provider answers: which value, by how many requests, and with whose trust.

mod dialects;
mod directories;
mod flights;
mod hidden;
mod names;
mod refreshes;
mod refusals;
mod tokens;
mod trust;
mod workloads;
