//! What is measured stands on a stage of its own: a psid with its files, and an Infisical for it.

mod child;
mod fake_infisical;
mod psid;

pub use child::Child;
pub use fake_infisical::FakeInfisical;
pub use psid::{Psid, World};

use std::path::{Path, PathBuf};

use crate::Result;

/// The programs that are measured.
#[derive(Clone)]
pub struct Programs {
    pub psid: PathBuf,
    pub driver: PathBuf,
    pub fake: PathBuf,
    /// This one.
    pub bench: PathBuf,
}

impl Programs {
    /// As `make build` and `make bench` left them below `target`.
    pub fn below(target: &Path) -> Result<Self> {
        let found = |name: &str| {
            let path = target.join(name);
            match path.canonicalize() {
                Ok(path) => Ok(path),
                Err(error) => Err(format!("{}: {error}; run `make bench`", path.display())),
            }
        };
        Ok(Self {
            psid: found("dist/psid")?,
            driver: found("dist/psi-driver")?,
            fake: found("release/fake-infisical")?,
            bench: std::env::current_exe()?,
        })
    }
}

/// One of many ids as podman makes them.
pub fn id(number: usize) -> String {
    format!("{number:025x}")
}

/// A reference as `psi-driver setup` registers it.
pub fn reference(path: &str, key: &str) -> String {
    serde_json::json!({"provider": "infisical", "project": "myproject", "path": path, "key": key})
        .to_string()
}
