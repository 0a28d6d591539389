//! Which version of the API a server has. One bare 404 may be a router's mood: v4 and v3 resolve
//! references differently, and nobody is moved from one to the other by it.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Bare 404s of v4 in a row, after which v3 is asked first.
const CONFIRMATIONS: u32 = 3;
/// How long they take at least, if v4 has answered before.
const CONFIRMED_AFTER: Duration = Duration::from_secs(1);
/// How often v4 is tried while v3 is asked first.
const PROBE: Duration = Duration::from_secs(60);

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V3,
    V4,
}

/// What is known of a server's versions.
#[derive(Default)]
pub(super) struct Versions(Mutex<State>);

#[derive(Default)]
struct State {
    /// It has answered, and is not known to be gone.
    has_v4: bool,
    /// Bare 404s of it since.
    missing: u32,
    /// The first of them.
    since: Option<Instant>,
    /// When v4 is tried next, while v3 is asked first.
    probe_at: Option<Instant>,
}

impl Versions {
    /// The version to ask, after one that has not the route.
    pub(super) fn choose(&self, after: Option<Version>, now: Instant) -> Version {
        use Version::{V3, V4};
        let mut state = self.state();
        match (state.probe_at, after) {
            (None, _) if state.has_v4 => V4,
            (_, Some(V4)) => V3,
            (_, Some(V3)) | (None, None) => V4,
            (Some(probe_at), None) if now >= probe_at => {
                state.probe_at = Some(now + PROBE);
                V4
            }
            (Some(_), None) => V3,
        }
    }

    /// A version has the route.
    pub(super) fn answered(&self, version: Version) {
        if version == Version::V4 {
            *self.state() = State { has_v4: true, ..State::default() };
        }
    }

    /// A version has not the route.
    pub(super) fn missing(&self, version: Version, now: Instant) {
        if version == Version::V3 {
            return;
        }
        let mut state = self.state();
        let since = *state.since.get_or_insert(now);
        state.missing = state.missing.saturating_add(1);
        let is_long = !state.has_v4 || now - since >= CONFIRMED_AFTER;
        if state.missing >= CONFIRMATIONS && is_long && state.probe_at.is_none() {
            state.has_v4 = false;
            state.probe_at = Some(now + PROBE);
        }
    }

    /// Whether v4 has answered, and is not known to be gone.
    pub(super) fn has_v4(&self) -> bool {
        self.state().has_v4
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Version::{V3, V4};

    const SECOND: Duration = Duration::from_secs(1);

    fn order(versions: &Versions, now: Instant) -> [Version; 2] {
        let first = versions.choose(None, now);
        [first, versions.choose(Some(first), now)]
    }

    #[test]
    fn one_bare_404_moves_nobody_from_v4() {
        let (versions, now) = (Versions::default(), Instant::now());
        versions.answered(V4);
        for _ in 0..50 {
            versions.missing(V4, now);
            assert_eq!(order(&versions, now), [V4, V4]);
        }
        versions.answered(V4);
        // Not even if another one comes a day later.
        versions.missing(V4, now + 86_400 * SECOND);
        assert_eq!(order(&versions, now + 86_400 * SECOND), [V4, V4]);
    }

    #[test]
    fn a_server_that_lost_v4_is_asked_by_v3_and_probed() {
        let (versions, now) = (Versions::default(), Instant::now());
        versions.answered(V4);
        for _ in 0..2 {
            versions.missing(V4, now);
        }
        let mut now = now + SECOND;
        versions.missing(V4, now);
        assert!(!versions.has_v4());
        for _ in 0..3 {
            assert_eq!(order(&versions, now), [V3, V4]);
            now += PROBE;
            assert_eq!(order(&versions, now), [V4, V3], "once");
            versions.missing(V4, now);
            assert_eq!(order(&versions, now), [V3, V4]);
        }
        versions.answered(V4);
        assert_eq!(order(&versions, now), [V4, V4]);
    }

    #[test]
    fn a_server_without_v4_is_asked_twice_a_few_times_only() {
        let (versions, now) = (Versions::default(), Instant::now());
        for _ in 0..CONFIRMATIONS {
            assert_eq!(order(&versions, now), [V4, V3]);
            versions.missing(V4, now);
            versions.answered(V3);
        }
        assert_eq!(order(&versions, now), [V3, V4]);
    }
}
