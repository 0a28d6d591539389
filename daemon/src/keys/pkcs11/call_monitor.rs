//! The state of the worker thread: the call that is running, and the result of the last request.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::{TokenError, TokenErrorKind};
use crate::model::reach::Reach;

/// The state of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// No request was made yet.
    Unused,
    /// The last request succeeded.
    Ready,
    /// A call into the module has not returned yet.
    Busy {
        /// The name of the function in PKCS#11.
        call: &'static str,
        /// When the call began.
        since: Instant,
    },
    /// It is missing or does not work.
    Away {
        /// When that was first observed.
        since: Instant,
        /// The error, with its remedy.
        why: String,
    },
    /// The PIN is missing, wrong or locked, and is not retried.
    PinRefused {
        /// The error, with its remedy.
        why: String,
    },
}

/// A call that takes longer may hang.
const SLOW_CALL: Duration = Duration::from_secs(10);

/// Watches the calls for one that hangs. Written by the worker, read by all handles.
#[derive(Default)]
pub(super) struct CallMonitor(Mutex<MonitorState>);

#[derive(Default)]
struct MonitorState {
    call: Option<(&'static str, Instant)>,
    last: Option<TokenState>,
    /// Whether the token lacks the key that the config names.
    lacks_key: bool,
}

/// Clears the running call, also if it panics.
struct CallGuard<'a>(&'a CallMonitor);

impl CallMonitor {
    /// Runs a call into the module, and reports it as running meanwhile.
    pub(super) fn watch<T>(&self, call: &'static str, run: impl FnOnce() -> T) -> T {
        self.0.lock().call = Some((call, Instant::now()));
        let _guard = CallGuard(self);
        run()
    }

    pub(super) fn state(&self) -> TokenState {
        let state = self.0.lock();
        match state.call {
            Some((call, since)) => TokenState::Busy { call, since },
            None => state.last.clone().unwrap_or(TokenState::Unused),
        }
    }

    /// Whether the token could decrypt now. A short call changes nothing: it may be of another request.
    pub(super) fn reach(&self) -> Reach {
        let state = self.0.lock();
        if let Some((call, since)) = state.call
            && since.elapsed() > SLOW_CALL
        {
            let lasted = seconds(since.elapsed());
            return Reach::Unknown(format!(
                "the PKCS#11 module has not returned from {call} for {lasted}; check the token's reader and pcscd"
            ));
        }
        match &state.last {
            _ if state.lacks_key => Reach::Out,
            Some(TokenState::Ready) => Reach::Ready,
            Some(TokenState::Away { .. } | TokenState::PinRefused { .. }) => Reach::Out,
            Some(TokenState::Unused | TokenState::Busy { .. }) | None => Reach::Unknown(
                "the token was not used since the start; `psictl hsm status` tests it".into(),
            ),
        }
    }

    /// Records the result of a request, and logs a change of the state.
    pub(super) fn record(&self, result: Result<(), &TokenError>) {
        let mut state = self.0.lock();
        match result.map_err(|error| error.kind) {
            Ok(()) => state.lacks_key = false,
            Err(TokenErrorKind::NoKey) => state.lacks_key = true,
            Err(_) => {}
        }
        let last = state.last.take().unwrap_or(TokenState::Unused);
        let next = match result {
            Ok(()) => TokenState::Ready,
            Err(error) => match error.kind {
                TokenErrorKind::Pin => TokenState::PinRefused { why: error.to_string() },
                // The token works; the error concerns this request only.
                TokenErrorKind::Refused | TokenErrorKind::NoKey | TokenErrorKind::Busy => {
                    last.clone()
                }
                TokenErrorKind::Absent | TokenErrorKind::Broken => {
                    let since = match &last {
                        TokenState::Away { since, .. } => *since,
                        _ => Instant::now(),
                    };
                    TokenState::Away { since, why: error.to_string() }
                }
            },
        };
        match (&last, &next) {
            (TokenState::Ready, TokenState::Ready)
            | (_, TokenState::Unused | TokenState::Busy { .. }) => {}
            (_, TokenState::Ready) => tracing::info!("the token is ready"),
            (TokenState::Away { .. }, TokenState::Away { .. }) => {}
            (TokenState::PinRefused { why: before }, TokenState::PinRefused { why })
                if before == why => {}
            (_, TokenState::Away { why, .. } | TokenState::PinRefused { why }) => {
                tracing::warn!("the token is not usable: {why}");
            }
        }
        state.last = Some(next);
    }

    /// The error of a request that was not answered within `timeout`.
    pub(super) fn timeout_error(&self, timeout: Duration) -> TokenError {
        match self.0.lock().call {
            Some((call, since)) => TokenError::busy(
                format!(
                    "the PKCS#11 module has not returned from {call} for {}",
                    seconds(since.elapsed())
                ),
                "psid continues when it returns; if that takes unusually long, check the token's \
                 reader and pcscd, and `systemctl restart psid`",
            ),
            None => TokenError::busy(
                format!("the token was not ready within {}", seconds(timeout)),
                "try again; the first use opens a session, which takes half a minute on some tokens",
            ),
        }
    }
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.0.0.lock().call = None;
    }
}

fn seconds(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        whole => format!("{whole} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent() -> TokenError {
        TokenError::absent("nothing is in the slot", "plug it in")
    }

    #[test]
    fn state_is_the_result_of_the_last_request() {
        let monitor = CallMonitor::default();
        assert_eq!(monitor.state(), TokenState::Unused);
        monitor.record(Ok(()));
        assert_eq!(monitor.state(), TokenState::Ready);
        monitor.record(Err(&absent()));
        let TokenState::Away { since, why } = monitor.state() else {
            panic!("{:?}", monitor.state())
        };
        assert_eq!(why, "nothing is in the slot; plug it in");
        monitor.record(Err(&absent()));
        assert_eq!(
            monitor.state(),
            TokenState::Away { since, why },
            "the time of the first failure"
        );
        monitor.record(Err(&TokenError::refused("not this", "do that")));
        assert!(matches!(monitor.state(), TokenState::Away { .. }), "the token works");
        monitor.record(Err(&TokenError::pin("wrong", "right it")));
        assert_eq!(monitor.state(), TokenState::PinRefused { why: "wrong; right it".into() });
    }

    #[test]
    fn reach_follows_the_last_request() {
        let monitor = CallMonitor::default();
        assert!(matches!(monitor.reach(), Reach::Unknown(_)), "no request was made");
        monitor.record(Ok(()));
        assert_eq!(monitor.reach(), Reach::Ready);
        for error in [
            absent(),
            TokenError::pin("wrong", "right it"),
            TokenError::no_key("no such key", "make one"),
        ] {
            monitor.record(Err(&error));
            assert_eq!(monitor.reach(), Reach::Out, "{error}");
            monitor.record(Ok(()));
            assert_eq!(monitor.reach(), Reach::Ready);
        }
        // Neither a blob for another key nor a call that has just begun changes what is known.
        monitor.record(Err(&TokenError::refused("not this", "do that")));
        assert_eq!(monitor.reach(), Reach::Ready);
        monitor.watch("C_Decrypt", || assert_eq!(monitor.reach(), Reach::Ready));
    }

    #[test]
    fn call_is_reported_while_it_runs_and_cleared_when_it_panics() {
        let monitor = CallMonitor::default();
        let error = monitor.watch("C_Login", || {
            assert!(matches!(monitor.state(), TokenState::Busy { call: "C_Login", .. }));
            monitor.timeout_error(Duration::from_secs(9)).to_string()
        });
        assert!(
            error.starts_with("the PKCS#11 module has not returned from C_Login for "),
            "{error}"
        );
        let crash = || monitor.watch("C_Sign", || panic!("in a test"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(crash)).is_err());
        assert_eq!(monitor.state(), TokenState::Unused);
        let error = monitor.timeout_error(Duration::from_secs(9)).to_string();
        assert!(error.starts_with("the token was not ready within 9 s; "), "{error}");
    }
}
