//! Faults between a client and the server, on demand.

pub mod answers;
pub mod rules;
pub mod subject;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::route::Route;
use subject::Subject;

/// The kinds of fault. Those without a comment do what their name says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Fault {
    /// The port is closed and live connections are dropped, while the rule exists
    Refuse,
    /// Reads the request and never answers
    Hang,
    /// A TCP reset before any byte
    Reset,
    /// The head and half of the body, then a TCP reset
    ResetMidBody,
    /// The full length announced, half of it sent, then a clean end
    Truncate,
    /// The body byte by byte: either so many per second, or one per interval
    SlowDrip {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes_per_second: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delay_ms: Option<u64>,
    },
    /// The answer as of the request's arrival, but later
    Delay {
        ms: u64,
    },
    /// Any error, in the server's envelope
    Status {
        code: u16,
        #[serde(default = "default_error")]
        error: String,
        #[serde(default = "default_message")]
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Value>,
        /// Seconds, in the header of that name
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    DatabaseError,
    /// Postgres is down: each route except `/api/status` is a 500 that names its database call
    PostgresDown,
    /// The lock of a login is taken: 429 without `retry-after`
    LockContended,
    /// Fastify's bare 404, as if the server had no such route
    RouteNotFound,
    /// 200, and a listing without secrets and imports
    EmptyListing,
    #[serde(rename = "html-502")]
    Html502,
    #[serde(rename = "html-503")]
    Html503,
    #[serde(rename = "html-404")]
    Html404,
    #[serde(rename = "html-403-waf")]
    Html403Waf,
    /// 200, and the login page of a network
    CaptivePortal,
    /// Compressed, whether or not the client accepts it
    Gzip,
    /// Everything but a GET fails with a 500
    Maintenance,
    Redirect {
        location: String,
        code: u16,
    },
    /// 200 and `application/json`, but no JSON
    GarbageJson,
    /// 200 and JSON, without the fields that clients need
    WrongShape,
    /// A list with this many additional secrets
    HugeList {
        entries: usize,
    },
}

impl Fault {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::ResetMidBody => "reset-mid-body",
            Self::Truncate => "truncate",
            Self::SlowDrip { .. } => "slow-drip",
            Self::Delay { .. } => "delay",
            Self::Status { .. } => "status",
            Self::DatabaseError => "database-error",
            Self::PostgresDown => "postgres-down",
            Self::LockContended => "lock-contended",
            Self::RouteNotFound => "route-not-found",
            Self::EmptyListing => "empty-listing",
            Self::Html502 => "html-502",
            Self::Html503 => "html-503",
            Self::Html404 => "html-404",
            Self::Html403Waf => "html-403-waf",
            Self::CaptivePortal => "captive-portal",
            Self::Gzip => "gzip",
            Self::Maintenance => "maintenance",
            Self::Redirect { .. } => "redirect",
            Self::GarbageJson => "garbage-json",
            Self::WrongShape => "wrong-shape",
            Self::HugeList { .. } => "huge-list",
        }
    }

    /// Some faults let requests through by their nature: maintenance allows reads, and
    /// `/api/status` uses no database.
    fn concerns(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Maintenance => subject.request.method != "GET",
            Self::PostgresDown => subject.route.is_some_and(|route| route != Route::Status),
            Self::LockContended => subject.route == Some(Route::Login),
            Self::EmptyListing => subject.route == Some(Route::List),
            _ => true,
        }
    }
}

fn default_error() -> String {
    "InternalServerError".to_owned()
}

fn default_message() -> String {
    "Something went wrong".to_owned()
}
