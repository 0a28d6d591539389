//! The config that the daemon runs with, against the file as it is now.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use psi_common::BackendTag;

use crate::config::{Config, Fingerprint};

/// The config that was read last, and its file.
pub(super) struct ConfigInForce {
    path: PathBuf,
    read: Mutex<(Fingerprint, Option<BackendTag>)>,
}

/// A difference between the file and the daemon.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Drift {
    /// A fixed word for the cause.
    pub(super) cause: &'static str,
    /// What happened; the remedy.
    pub(super) why: String,
}

impl ConfigInForce {
    /// The config with which the daemon starts.
    pub(super) fn new(path: PathBuf, config: &Config) -> Self {
        Self { path, read: Mutex::new((config.fingerprint, config.cache.backend)) }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Records a config that the daemon follows now; whether it is another one than before.
    pub(super) fn follow(&self, config: &Config) -> bool {
        let read = (config.fingerprint, config.cache.backend);
        std::mem::replace(&mut *self.read.lock(), read).0 != read.0
    }

    /// How the file differs from what the daemon runs with; `backend` is the key backend of its start.
    pub(super) fn drift(&self, backend: Option<BackendTag>) -> Option<Drift> {
        let (fingerprint, configured) = *self.read.lock();
        let path = self.path.display();
        let restart = "`systemctl restart psid`";
        let bytes = match fs::read(&self.path) {
            Ok(bytes) if Fingerprint::of(&bytes) == fingerprint => {
                // A reload takes no other backend.
                return (configured != backend).then(|| Drift {
                    cause: "config-changed",
                    why: format!("{path} has another key backend than psid runs with; {restart}"),
                });
            }
            Ok(bytes) => bytes,
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::NotFound => "No such file".to_owned(),
                    _ => error.to_string(),
                };
                let why = format!(
                    "{path}: {why}; the config before it stays in force, and psid does not start again without \
                     the file: `psid check`"
                );
                return Some(Drift { cause: "config", why });
            }
        };
        Some(match Config::from_bytes(Ok(bytes), &self.path) {
            Ok(newer) => {
                let takes_restart = newer.cache.backend != backend;
                let command = if takes_restart { restart } else { "`systemctl reload psid`" };
                let why = format!("{path} is newer than the config that psid runs with; {command}");
                Drift { cause: "config-changed", why }
            }
            Err(error) => {
                let why = format!(
                    "{error}; the config before it stays in force: correct it, `psid check`, then `systemctl \
                     reload psid`"
                );
                Drift { cause: "config", why }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_found_by_content_and_names_the_command() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let write = |text: &str| fs::write(&path, text).unwrap();
        let good = "[cache]\nbackend = \"tpm\"\n";
        write(good);
        let in_force = ConfigInForce::new(path.clone(), &Config::read(&path).unwrap());
        let drift = |backend| {
            in_force.drift(backend).map_or_else(|| ("", String::new()), |it| (it.cause, it.why))
        };
        let tpm = Some(BackendTag::Tpm);
        // Written again, and the same.
        write(good);
        assert_eq!(drift(tpm), ("", String::new()));
        write("[cache]\nbackend = \"tpm\"\nmax_stale = \"7d\"\n");
        let (cause, why) = drift(tpm);
        assert!(cause == "config-changed" && why.ends_with("; `systemctl reload psid`"), "{why}");
        write("");
        let (cause, why) = drift(tpm);
        assert!(cause == "config-changed" && why.ends_with("; `systemctl restart psid`"), "{why}");
        write("[cache]\nbackend = \"disk\"\n");
        let (cause, why) = drift(tpm);
        assert!(cause == "config" && why.contains("config.toml:2: unknown variant"), "{why}");
        fs::remove_file(&path).unwrap();
        let (cause, why) = drift(tpm);
        assert!(cause == "config" && why.contains("config.toml: No such file"), "{why}");
        // A reload followed the backend, and the daemon could not.
        write("");
        in_force.follow(&Config::read(&path).unwrap());
        let (cause, why) = drift(tpm);
        assert!(cause == "config-changed" && why.contains("another key backend"), "{why}");
        assert_eq!(drift(None), ("", String::new()));
    }
}
