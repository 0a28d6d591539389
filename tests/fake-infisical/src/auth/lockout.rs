//! Three wrong secrets within half a minute lock an identity for five minutes.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LockoutPolicy {
    pub enabled: bool,
    pub threshold: u32,
    pub reset_seconds: u64,
    pub lock_seconds: u64,
}

impl Default for LockoutPolicy {
    fn default() -> Self {
        Self { enabled: true, threshold: 3, reset_seconds: 30, lock_seconds: 300 }
    }
}

/// The server keeps this as a Redis entry, so each failure restarts its expiry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lockout {
    failures: u32,
    locked: bool,
    expires_at: Millis,
}

impl Lockout {
    pub fn is_locked(&self, now: Millis) -> bool {
        self.locked && now < self.expires_at
    }

    pub fn fail(&mut self, policy: LockoutPolicy, now: Millis) {
        if !policy.enabled {
            return;
        }
        if now >= self.expires_at {
            *self = Self::default();
        }
        self.failures += 1;
        self.locked = self.failures >= policy.threshold;
        let seconds = if self.locked { policy.lock_seconds } else { policy.reset_seconds };
        self.expires_at = now + seconds * 1000;
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn third_failure_locks_for_five_minutes() {
        let policy = LockoutPolicy::default();
        let mut lockout = Lockout::default();
        lockout.fail(policy, 0);
        lockout.fail(policy, 29_000);
        assert!(!lockout.is_locked(29_000));
        lockout.fail(policy, 58_000);
        assert!(lockout.is_locked(58_000) && lockout.is_locked(357_999));
        assert!(!lockout.is_locked(358_000));
    }

    #[test]
    fn lockout_forgets_old_failures() {
        let policy = LockoutPolicy::default();
        let mut lockout = Lockout::default();
        lockout.fail(policy, 0);
        lockout.fail(policy, 1);
        lockout.fail(policy, 30_001);
        assert!(!lockout.is_locked(30_001));
    }
}
