//! The memory of refused logins and PINs, in the run directory.
//!
//! Some failures in a row lock a token's PIN or a machine identity, whichever process makes them. So what
//! was refused is remembered across restarts and across psid's programs. Of a secret only a hash under a
//! random key is kept. A reboot ends the memory, as the directory is in RAM.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use psi_common::Paths;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::model::clock::{self, BootInstant};
use crate::storage::boot_id;
use crate::sys::files::{self, DirectoryLock};

/// The pause after the first refusal of a login; it doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(5 * 60);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
/// More than a host has, and little enough to be read for each login.
const MAX_SUBJECTS: usize = 128;
const MAX_SECRETS: usize = 8;
const MAX_FILE: u64 = 256 * 1024;
/// How long to wait for another process that holds the lock of the file: it does so for one small write.
const LOCK_LIMIT: Duration = Duration::from_millis(100);

/// The refused logins and PINs. Clones share one memory.
#[derive(Clone, Debug)]
pub struct FailedLogins(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whose run directory it is; none: in RAM only.
    paths: Option<Paths>,
    clock: fn() -> BootInstant,
    boot: OnceLock<NonZeroU64>,
    state: Mutex<State>,
}

/// What this process knows beside the file.
#[derive(Debug, Default)]
struct State {
    key: Option<Key>,
    /// What could not be written yet; none for a subject that was cleared.
    pending: BTreeMap<String, Option<Subject>>,
    /// The last failure, which is logged once.
    failure: Option<String>,
}

type Key = [u8; 32];

/// A refusal that still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLogin {
    /// Why it was refused; one line, without a secret.
    pub why: String,
    /// How long to wait; none: until the secret changes.
    pub wait_left: Option<Duration>,
    /// How often it was refused.
    pub count: u32,
}

/// How long a refusal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRule {
    /// Until the secret changes: a PIN.
    WhenChanged,
    /// 5 minutes, doubled by each refusal of the same secret up to 1 h, and ±50 % at random: a login.
    Backoff,
    /// At least so long, whatever the secret is: a locked identity, `Retry-After`.
    After(Duration),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Table {
    /// The key of the hashes, in hex.
    key: String,
    subjects: BTreeMap<String, Subject>,
}

/// What is remembered of one identity or token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    /// Nobody tries before, whatever the secret.
    #[serde(default)]
    identity: Option<Refused>,
    /// By secret, the newest last.
    #[serde(default)]
    secrets: VecDeque<Refused>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refused {
    /// Of the secret, in hex; empty for the identity as a whole.
    hash: String,
    why: String,
    count: u32,
    /// None: until the secret changes.
    wait: Option<Wait>,
}

/// A time on the boot clock of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wait {
    boot: NonZeroU64,
    until_ms: i64,
    /// The whole pause: no clock makes the wait longer.
    pause_ms: i64,
}

impl FailedLogins {
    /// The memory in the run directory, which is made when it is first needed. Where that cannot be written,
    /// it lasts as long as the process.
    pub fn open(paths: &Paths) -> Self {
        Self::with(Some(paths.clone()), || clock::now().tick)
    }

    /// A memory that lasts as long as the process.
    pub fn in_ram() -> Self {
        Self::with(None, || clock::now().tick)
    }

    fn with(paths: Option<Paths>, clock: fn() -> BootInstant) -> Self {
        Self(Arc::new(Shared { paths, clock, boot: OnceLock::new(), state: Mutex::default() }))
    }

    /// The refusal that holds for this secret of this subject (an identity or a token): it must not be
    /// tried now.
    pub fn look_up(&self, subject: &str, secret: &[u8]) -> Option<FailedLogin> {
        let mut state = self.0.lock();
        let table = self.0.table(&mut state);
        let hash = hash(&table.key()?, subject, secret);
        let (now, boot) = ((self.0.clock)(), self.0.boot());
        let known = table.subjects.get(subject)?;
        let of_secret = known.secrets.iter().find(|refused| refused.hash == hash);
        known.identity.iter().chain(of_secret).find_map(|refused| refused.holds(now, boot))
    }

    /// How often this secret was refused, whether that still holds or not.
    pub fn count(&self, subject: &str, secret: &[u8]) -> u32 {
        let table = self.0.table(&mut self.0.lock());
        let (Some(key), Some(known)) = (table.key(), table.subjects.get(subject)) else { return 0 };
        let hash = hash(&key, subject, secret);
        known.secrets.iter().find(|refused| refused.hash == hash).map_or(0, |refused| refused.count)
    }

    /// Remembers a refusal, and returns how long it holds.
    pub fn record(&self, subject: &str, secret: &[u8], why: &str, retry: RetryRule) -> FailedLogin {
        let mut state = self.0.lock();
        // Where that fails, so does the write, which logs it.
        let _ = self.0.make_directory();
        let _lock = self.0.lock_file();
        let mut table = self.0.table(&mut state);
        let key = table.key_or_new();
        state.key = Some(key);
        let (now, boot) = ((self.0.clock)(), self.0.boot());
        let mut known = table.subjects.get(subject).cloned().unwrap_or_default();
        let hash = hash(&key, subject, secret);
        let refused = known.refuse(hash, why, retry, |wait| Wait::new(boot, now, wait));
        let refusal = refused.holds(now, boot).unwrap_or_else(|| refused.refusal(Duration::ZERO));
        state.pending.insert(subject.to_owned(), Some(known));
        self.0.write(&mut state, table);
        refusal
    }

    /// Forgets what is known of a subject, after a success.
    pub fn clear(&self, subject: &str) {
        let mut state = self.0.lock();
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> Option<PathBuf> {
        Some(self.paths.as_ref()?.run.join("refusals.json"))
    }

    fn boot(&self) -> NonZeroU64 {
        *self.boot.get_or_init(|| match &self.paths {
            Some(paths) => boot_id::read_or_create(&paths.run).0,
            None => NonZeroU64::MIN,
        })
    }

    fn make_directory(&self) -> io::Result<()> {
        self.paths.as_ref().map_or(Ok(()), files::create_run_directory)
    }

    /// The file, and what could not be written to it.
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
            // Hashes under another key say nothing.
            table = Table {
                key: state.key.map_or_else(String::new, |key| hex(&key)),
                ..Table::default()
            };
        }
        state.merge_into(&mut table);
        table
    }

    /// Writes the table with what is pending.
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
            self.make_directory()?;
            files::replace(&path, &bytes)
        });
        match written {
            Ok(()) => {
                state.pending.clear();
                state.failure = None;
            }
            Err(error) => state.log(format!(
                "{} cannot be written: {error}; until that is mended, a restart forgets which logins and \
                 PINs were refused",
                path.display()
            )),
        }
    }

    /// The lock of the file among processes; none after a while: a login must not wait for long.
    fn lock_file(&self) -> Option<DirectoryLock> {
        files::lock_directory(&self.paths.as_ref()?.run, LOCK_LIMIT).ok()
    }
}

impl State {
    /// Applies what could not be written yet.
    fn merge_into(&self, table: &mut Table) {
        for (subject, change) in &self.pending {
            match change {
                Some(known) => table.subjects.insert(subject.clone(), known.clone()),
                None => table.subjects.remove(subject),
            };
        }
    }

    fn log(&mut self, failure: String) {
        if self.failure.as_ref() != Some(&failure) {
            tracing::warn!("{failure}");
            self.failure = Some(failure);
        }
    }
}

impl Table {
    fn key(&self) -> Option<Key> {
        let digits = self.key.as_bytes();
        let mut key = Key::default();
        if digits.len() != 2 * key.len() {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(key)
    }

    fn key_or_new(&mut self) -> Key {
        if let Some(key) = self.key() {
            return key;
        }
        let mut key = Key::default();
        // Without random numbers nothing else of psid works either.
        let _ = getrandom::fill(&mut key);
        self.key = hex(&key);
        key
    }
}

impl Subject {
    fn refuse(
        &mut self,
        hash: String,
        why: &str,
        retry: RetryRule,
        wait: impl Fn(Duration) -> Wait,
    ) -> Refused {
        let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if let RetryRule::After(pause) = retry {
            let count = self.identity.as_ref().map_or(1, |refused| refused.count.saturating_add(1));
            let refused = Refused { hash: String::new(), why, count, wait: Some(wait(pause)) };
            self.identity = Some(refused.clone());
            return refused;
        }
        let known = self.secrets.iter().position(|refused| refused.hash == hash);
        let known = known.and_then(|at| self.secrets.remove(at));
        let count = known.map_or(1, |refused| refused.count.saturating_add(1));
        let wait = (retry == RetryRule::Backoff).then(|| wait(paced(count)));
        let refused = Refused { hash, why, count, wait };
        self.secrets.push_back(refused.clone());
        if self.secrets.len() > MAX_SECRETS {
            self.secrets.pop_front();
        }
        refused
    }
}

impl Refused {
    /// The refusal, while it holds.
    fn holds(&self, now: BootInstant, boot: NonZeroU64) -> Option<FailedLogin> {
        let Some(wait) = &self.wait else {
            return Some(FailedLogin { why: self.why.clone(), wait_left: None, count: self.count });
        };
        let left = wait.left(now, boot);
        (left > Duration::ZERO).then(|| self.refusal(left))
    }

    fn refusal(&self, left: Duration) -> FailedLogin {
        let wait_left = self.wait.is_some().then_some(left);
        FailedLogin { why: self.why.clone(), wait_left, count: self.count }
    }
}

impl Wait {
    fn new(boot: NonZeroU64, now: BootInstant, pause: Duration) -> Self {
        Self {
            boot,
            until_ms: now.after(pause).as_millis(),
            pause_ms: BootInstant::at(pause).as_millis(),
        }
    }

    /// Nothing in another boot, whose clock says nothing here.
    fn left(&self, now: BootInstant, boot: NonZeroU64) -> Duration {
        if self.boot != boot {
            return Duration::ZERO;
        }
        let left = self.until_ms.saturating_sub(now.as_millis()).min(self.pause_ms);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }
}

/// The pause after so many refusals, ±50 % at random, so that a fleet does not retry in step.
fn paced(count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(8);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + random)
}

/// None for no file.
fn read(path: &Path) -> io::Result<Option<Table>> {
    match files::read_small(path, MAX_FILE) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|_| io::Error::other("it is damaged"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn hash(key: &Key, subject: &str, secret: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(subject.as_bytes());
    mac.update(&[0]);
    mac.update(secret);
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
