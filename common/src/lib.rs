//! Shared by the programs, apart from the wire: ids, the types of secrets, paths, exit statuses, problems,
//! findings and reports, checks of text that crosses the socket, file locks, and the header of `cache.enc`.

mod cache_header;
pub mod check;
mod exit;
pub mod file_lock;
mod finding;
mod loader_variables;
mod online_report;
mod own_scope;
pub mod passwd;
mod paths;
mod problem;
mod seal_mode;
mod secret_bytes;
mod secret_id;
mod secret_string;
pub mod walk;

pub use cache_header::{BackendTag, CacheHeader, NotACache};
pub use exit::Exit;
pub use finding::{Finding, Severity};
pub use loader_variables::chooses_code;
pub use online_report::{
    CheckProblem, CheckedCredential, CheckedLogin, CheckedServer, CheckedSource, LeftOut,
    OnlineReport,
};
pub use own_scope::{for_own_scope, set_own_scope};
pub use paths::{Paths, Scope};
pub use problem::Problem;
pub use seal_mode::{SealMode, UnknownSealMode};
pub use secret_bytes::SecretBytes;
pub use secret_id::{InvalidSecretId, SecretId};
pub use secret_string::{NotUtf8, SecretString};

/// The largest secret that podman accepts, in bytes (`0 < len < 512000` in its secrets.go).
pub const MAX_SECRET_BYTES: usize = 511_999;

/// Linux's longest `NAME=VALUE` of a variable, with the NUL at its end (MAX_ARG_STRLEN).
pub const MAX_VARIABLE_BYTES: usize = 128 * 1024;
