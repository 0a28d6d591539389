//! The file of failed logins.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{FailedLogin, RetryRule};
use crate::model::clock::BootInstant;
use crate::sys::files;

/// The pause after the first refusal of a login; it doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(5 * 60);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
pub(super) const MAX_SECRETS: usize = 8;
const MAX_FILE: u64 = 256 * 1024;

/// The key of the hashes.
pub(super) type Key = [u8; 32];

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Table {
    /// The key of the hashes in hex.
    pub(super) key: String,
    pub(super) subjects: BTreeMap<String, Subject>,
}

/// The failed logins of one identity or token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    /// A failure of the identity as a whole, which holds for any secret.
    #[serde(default)]
    pub(super) identity: Option<Attempt>,
    /// The failures by secret, the newest last.
    #[serde(default)]
    pub(super) secrets: VecDeque<Attempt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The hash of the secret in hex; empty for the identity as a whole.
    pub(super) hash: String,
    why: String,
    pub(super) count: u32,
    /// `None`: until the secret changes.
    wait: Option<Wait>,
}

/// A time on the boot clock of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wait {
    boot: NonZeroU64,
    until_ms: i64,
    /// The whole pause, which limits the wait whatever the clock shows.
    pause_ms: i64,
}

impl Table {
    /// The key, if it is valid.
    pub(super) fn key(&self) -> Option<Key> {
        HEXLOWER.decode(self.key.as_bytes()).ok()?.try_into().ok()
    }

    /// The key; a new one if there is none.
    pub(super) fn key_or_new(&mut self) -> Key {
        if let Some(key) = self.key() {
            return key;
        }
        let mut key = Key::default();
        // Without random numbers, psid does not work at all.
        let _ = getrandom::fill(&mut key);
        self.key = HEXLOWER.encode(&key);
        key
    }
}

impl Subject {
    /// Records an attempt that was refused.
    pub(super) fn refuse(
        &mut self,
        hash: String,
        why: &str,
        retry: RetryRule,
        wait: impl Fn(Duration) -> Wait,
    ) -> Attempt {
        let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if let RetryRule::After(pause) = retry {
            let count = self.identity.as_ref().map_or(1, |refused| refused.count.saturating_add(1));
            let refused = Attempt { hash: String::new(), why, count, wait: Some(wait(pause)) };
            self.identity = Some(refused.clone());
            return refused;
        }
        let known = self.secrets.iter().position(|attempt| attempt.hash == hash);
        let known = known.and_then(|at| self.secrets.remove(at));
        let count = known.map_or(1, |refused| refused.count.saturating_add(1));
        let wait = (retry == RetryRule::Backoff).then(|| wait(backoff(count)));
        let refused = Attempt { hash, why, count, wait };
        self.secrets.push_back(refused.clone());
        if self.secrets.len() > MAX_SECRETS {
            self.secrets.pop_front();
        }
        refused
    }
}

impl Attempt {
    /// The failed login, while it blocks the next attempt.
    pub(super) fn holds(&self, now: BootInstant, boot: NonZeroU64) -> Option<FailedLogin> {
        let Some(wait) = &self.wait else {
            return Some(self.failed(None));
        };
        let left = wait.left(now, boot);
        (left > Duration::ZERO).then(|| self.refusal(left))
    }

    pub(super) fn refusal(&self, left: Duration) -> FailedLogin {
        self.failed(self.wait.is_some().then_some(left))
    }

    fn failed(&self, wait_left: Option<Duration>) -> FailedLogin {
        FailedLogin {
            why: self.why.clone(),
            wait_left,
            count: self.count,
            any_secret: self.hash.is_empty(),
        }
    }
}

impl Wait {
    pub(super) fn new(boot: NonZeroU64, now: BootInstant, pause: Duration) -> Self {
        Self {
            boot,
            until_ms: now.after(pause).as_millis(),
            pause_ms: BootInstant::at(pause).as_millis(),
        }
    }

    /// The rest of the wait; none after a reboot, which resets the clock.
    fn left(&self, now: BootInstant, boot: NonZeroU64) -> Duration {
        if self.boot != boot {
            return Duration::ZERO;
        }
        let left = self.until_ms.saturating_sub(now.as_millis()).min(self.pause_ms);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }
}

/// The pause after `count` failures, ±50 % at random, so that many hosts do not retry at the same time.
fn backoff(count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(8);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + random)
}

/// Reads the file; `None` if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Table>> {
    match files::read_small(path, MAX_FILE) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|_| io::Error::other("it is damaged"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn hash(key: &Key, subject: &str, secret: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(subject.as_bytes());
    mac.update(&[0]);
    mac.update(secret);
    HEXLOWER.encode(&mac.finalize().into_bytes())
}
