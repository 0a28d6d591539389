//! What `psi-driver` and `psid` must agree on, apart from the wire: ids, secret bytes, paths, exit
//! codes, checks of what crosses the socket, what a host is found to lack, and the first six bytes of `cache.enc`.

mod cache_header;
pub mod check;
mod exit;
pub mod file_lock;
mod finding;
mod loader_variables;
mod own_scope;
mod paths;
mod problem;
mod secret_bytes;
mod secret_id;
mod secret_string;
pub mod walk;

pub use cache_header::{BackendTag, CacheHeader, NotACache};
pub use exit::Exit;
pub use finding::{Finding, Severity};
pub use loader_variables::chooses_code;
pub use own_scope::{for_own_scope, set_own_scope};
pub use paths::{Paths, Scope};
pub use problem::Problem;
pub use secret_bytes::SecretBytes;
pub use secret_id::{InvalidSecretId, SecretId};
pub use secret_string::{NotUtf8, SecretString};

/// The largest secret that podman accepts, in bytes (`0 < len < 512000` in its secrets.go).
pub const MAX_SECRET_BYTES: usize = 511_999;

/// Linux's longest `NAME=VALUE` of a variable, with the NUL at its end (MAX_ARG_STRLEN).
pub const MAX_VARIABLE_BYTES: usize = 128 * 1024;
