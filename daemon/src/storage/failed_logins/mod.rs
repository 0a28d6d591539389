//! Failed logins and refused PINs, recorded in the run directory.
//!
//! A few failures in a row lock the PIN of a token or a machine identity, whichever process causes them. So they are
//! recorded across restarts and across the programs of psid. Only a hash of each secret is stored, under a random
//! key. A reboot clears the record, because the directory is in memory.

mod table;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use psi_common::Paths;

use crate::model::clock::{self, BootInstant};
use crate::storage::boot_id;
use crate::sys::files::{self, DirectoryLock};

use table::{Key, Subject, Table, Wait, hash, read};

/// More than a host has, and few enough to be read for each login.
const MAX_SUBJECTS: usize = 128;
/// How long to wait for another process that holds the lock of the file: it does so for one small write.
const LOCK_LIMIT: Duration = Duration::from_millis(100);

/// The record of failed logins. Clones share it.
#[derive(Clone, Debug)]
pub struct FailedLogins(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The paths with the run directory; `None`: in memory only.
    paths: Option<Paths>,
    clock: fn() -> BootInstant,
    boot: OnceLock<NonZeroU64>,
    state: Mutex<State>,
}

/// What this process knows in addition to the file.
#[derive(Debug, Default)]
struct State {
    key: Option<Key>,
    /// Changes that could not be written yet; `None` for a cleared subject.
    pending: BTreeMap<String, Option<Subject>>,
    /// The last error, so that it is logged once.
    logged_error: Option<String>,
}

/// A failed login that still blocks the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLogin {
    /// The error; one line, without a secret.
    pub why: String,
    /// How long to wait; `None`: until the secret changes.
    pub wait_left: Option<Duration>,
    /// The number of failures.
    pub count: u32,
    /// Whether it holds for any secret: a lockout or a rate limit, which passes.
    pub any_secret: bool,
}

/// When a failed login may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRule {
    /// When the secret changes: a PIN.
    WhenChanged,
    /// After 5 minutes, doubled by each failure of the same secret up to 1 h, ±50 % at random: a login.
    Backoff,
    /// After at least this time, with any secret: a locked identity, `Retry-After`.
    After(Duration),
}

impl FailedLogins {
    /// The record in the run directory, which is created when it is first needed. If it cannot be written, the
    /// record lasts as long as the process.
    pub fn open(paths: &Paths) -> Self {
        Self::with(Some(paths.clone()), || clock::now().boot)
    }

    /// A record that lasts as long as the process.
    pub fn in_ram() -> Self {
        Self::with(None, || clock::now().boot)
    }

    fn with(paths: Option<Paths>, clock: fn() -> BootInstant) -> Self {
        Self(Arc::new(Shared { paths, clock, boot: OnceLock::new(), state: Mutex::default() }))
    }

    /// The failed login because of which this secret of `subject` (an identity or a token) must not be tried now.
    pub fn look_up(&self, subject: &str, secret: &[u8]) -> Option<FailedLogin> {
        let mut state = self.0.state.lock();
        let table = self.0.table(&mut state);
        let hash = hash(&table.key()?, subject, secret);
        let (now, boot) = ((self.0.clock)(), self.0.boot());
        let known = table.subjects.get(subject)?;
        let of_secret = known.secrets.iter().find(|attempt| attempt.hash == hash);
        known.identity.iter().chain(of_secret).find_map(|attempt| attempt.holds(now, boot))
    }

    /// The number of failures of this secret, whether it may be retried or not.
    pub fn count(&self, subject: &str, secret: &[u8]) -> u32 {
        let table = self.0.table(&mut self.0.state.lock());
        let (Some(key), Some(known)) = (table.key(), table.subjects.get(subject)) else { return 0 };
        let hash = hash(&key, subject, secret);
        known.secrets.iter().find(|attempt| attempt.hash == hash).map_or(0, |attempt| attempt.count)
    }

    /// Records a failed login.
    pub fn record(&self, subject: &str, secret: &[u8], why: &str, retry: RetryRule) -> FailedLogin {
        let mut state = self.0.state.lock();
        // If this fails, the write fails too, and logs the error.
        let _ = self.0.create_directory();
        let _lock = self.0.lock_file();
        let mut table = self.0.table(&mut state);
        let key = table.key_or_new();
        state.key = Some(key);
        let (now, boot) = ((self.0.clock)(), self.0.boot());
        let mut known = table.subjects.get(subject).cloned().unwrap_or_default();
        let hash = hash(&key, subject, secret);
        let attempt = known.refuse(hash, why, retry, |wait| Wait::new(boot, now, wait));
        let refusal = attempt.holds(now, boot).unwrap_or_else(|| attempt.refusal(Duration::ZERO));
        state.pending.insert(subject.to_owned(), Some(known));
        self.0.write(&mut state, table);
        refusal
    }

    /// Removes the failed logins of a subject, after a success.
    pub fn clear(&self, subject: &str) {
        let mut state = self.0.state.lock();
        if !self.0.table(&mut state).subjects.contains_key(subject) {
            return;
        }
        let _lock = self.0.lock_file();
        let table = self.0.table(&mut state);
        state.pending.insert(subject.to_owned(), None);
        self.0.write(&mut state, table);
    }
}

impl Shared {
    fn file(&self) -> Option<PathBuf> {
        Some(self.paths.as_ref()?.run.join("refusals.json"))
    }

    fn boot(&self) -> NonZeroU64 {
        *self.boot.get_or_init(|| match &self.paths {
            Some(paths) => boot_id::read_or_create(&paths.run).0,
            None => NonZeroU64::MIN,
        })
    }

    fn create_directory(&self) -> io::Result<()> {
        self.paths.as_ref().map_or(Ok(()), files::create_run_directory)
    }

    /// The content of the file, with the pending changes.
    fn table(&self, state: &mut State) -> Table {
        let mut table = match self.file().map(|path| (read(&path), path)) {
            None | Some((Ok(None), _)) => Table::default(),
            Some((Ok(Some(table)), _)) => table,
            Some((Err(why), path)) => {
                state.log(format!(
                    "{}: {why}; refused logins and PINs are forgotten",
                    path.display()
                ));
                Table::default()
            }
        };
        if table.key().is_none() {
            // Hashes under another key cannot be compared.
            table = Table {
                key: state.key.map_or_else(String::new, |key| HEXLOWER.encode(&key)),
                ..Table::default()
            };
        }
        state.merge_into(&mut table);
        table
    }

    /// Writes the table with the pending changes.
    fn write(&self, state: &mut State, mut table: Table) {
        let Some(path) = self.file() else {
            state.pending.retain(|_, change| change.is_some());
            return;
        };
        state.merge_into(&mut table);
        while table.subjects.len() > MAX_SUBJECTS {
            table.subjects.pop_first();
        }
        let written = serde_json::to_vec(&table).map_err(io::Error::other).and_then(|bytes| {
            self.create_directory()?;
            files::replace(&path, &bytes)
        });
        match written {
            Ok(()) => {
                state.pending.clear();
                state.logged_error = None;
            }
            Err(error) => state.log(format!(
                "{} cannot be written: {error}; until then, a restart forgets which logins and PINs \
                 were refused",
                path.display()
            )),
        }
    }

    /// Locks the file against other processes; `None` after a short wait, because a login must not wait long.
    fn lock_file(&self) -> Option<DirectoryLock> {
        files::lock_directory(&self.paths.as_ref()?.run, LOCK_LIMIT).ok()
    }
}

impl State {
    /// Applies the pending changes.
    fn merge_into(&self, table: &mut Table) {
        for (subject, change) in &self.pending {
            match change {
                Some(known) => table.subjects.insert(subject.clone(), known.clone()),
                None => table.subjects.remove(subject),
            };
        }
    }

    fn log(&mut self, error: String) {
        if self.logged_error.as_ref() != Some(&error) {
            tracing::warn!("{error}");
            self.logged_error = Some(error);
        }
    }
}

#[cfg(test)]
mod tests;
