//! Which version of the API a server has. Versions 4 and 3 resolve references differently, and a router may
//! answer a single 404 by mistake: it must not change the version.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The number of bare 404s of version 4 in a row after which version 3 is tried first.
const CONFIRMATIONS: u32 = 3;
/// The time that they span at least, if version 4 has answered before.
const CONFIRMED_AFTER: Duration = Duration::from_secs(1);
/// The interval at which version 4 is tried while version 3 is tried first.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiVersion {
    V3,
    V4,
}

/// The versions of a server, as far as they are known.
#[derive(Default)]
pub(super) struct Versions(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether version 4 has answered and is not known to be gone.
    has_v4: bool,
    /// The number of its bare 404s since.
    missing: u32,
    /// The time of the first of them.
    since: Option<Instant>,
    /// The time of the next try of version 4, while version 3 is tried first.
    probe_at: Option<Instant>,
}

impl Versions {
    /// The version to call; `after` is the version that did not have the route.
    pub(super) fn choose(&self, after: Option<ApiVersion>, now: Instant) -> ApiVersion {
        use ApiVersion::{V3, V4};
        let mut state = self.0.lock();
        match (state.probe_at, after) {
            (None, _) if state.has_v4 => V4,
            (_, Some(V4)) => V3,
            (_, Some(V3)) | (None, None) => V4,
            (Some(probe_at), None) if now >= probe_at => {
                state.probe_at = Some(now + PROBE_INTERVAL);
                V4
            }
            (Some(_), None) => V3,
        }
    }

    /// Records that a version has the route.
    pub(super) fn answered(&self, version: ApiVersion) {
        if version == ApiVersion::V4 {
            *self.0.lock() = State { has_v4: true, ..State::default() };
        }
    }

    /// Records that a version does not have the route.
    pub(super) fn missing(&self, version: ApiVersion, now: Instant) {
        if version == ApiVersion::V3 {
            return;
        }
        let mut state = self.0.lock();
        let since = *state.since.get_or_insert(now);
        state.missing = state.missing.saturating_add(1);
        let is_long = !state.has_v4 || now - since >= CONFIRMED_AFTER;
        if state.missing >= CONFIRMATIONS && is_long && state.probe_at.is_none() {
            state.has_v4 = false;
            state.probe_at = Some(now + PROBE_INTERVAL);
        }
    }

    /// Whether version 4 has answered and is not known to be gone.
    pub(super) fn has_v4(&self) -> bool {
        self.0.lock().has_v4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ApiVersion::{V3, V4};

    const SECOND: Duration = Duration::from_secs(1);

    fn order(versions: &Versions, now: Instant) -> [ApiVersion; 2] {
        let first = versions.choose(None, now);
        [first, versions.choose(Some(first), now)]
    }

    #[test]
    fn short_burst_of_404s_keeps_v4() {
        let (versions, now) = (Versions::default(), Instant::now());
        versions.answered(V4);
        for _ in 0..50 {
            versions.missing(V4, now);
            assert_eq!(order(&versions, now), [V4, V4]);
        }
        versions.answered(V4);
        // Another one a day later changes nothing.
        versions.missing(V4, now + 86_400 * SECOND);
        assert_eq!(order(&versions, now + 86_400 * SECOND), [V4, V4]);
    }

    #[test]
    fn server_without_v4_is_called_by_v3_and_probed() {
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
            now += PROBE_INTERVAL;
            assert_eq!(order(&versions, now), [V4, V3], "once");
            versions.missing(V4, now);
            assert_eq!(order(&versions, now), [V3, V4]);
        }
        versions.answered(V4);
        assert_eq!(order(&versions, now), [V4, V4]);
    }

    #[test]
    fn old_server_is_called_by_v3_after_a_few_tries() {
        let (versions, now) = (Versions::default(), Instant::now());
        for _ in 0..CONFIRMATIONS {
            assert_eq!(order(&versions, now), [V4, V3]);
            versions.missing(V4, now);
            versions.answered(V3);
        }
        assert_eq!(order(&versions, now), [V3, V4]);
    }
}
