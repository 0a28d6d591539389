//! What the thread is doing, for those who wait for it and for the status.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::error::{TokenError, TokenErrorKind};
use super::token_handle::lock;
use crate::model::reach::Reach;

/// How the token fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It was never asked for anything.
    Unused,
    /// It did what was asked of it last.
    Ready,
    /// A call into the module has not returned yet.
    Busy {
        /// Which one, by its name in PKCS#11.
        call: &'static str,
        /// When it was made.
        since: Instant,
    },
    /// It is not there, or does not work.
    Away {
        /// When that was first found.
        since: Instant,
        /// The error, with its remedy.
        why: String,
    },
    /// The PIN is missing, wrong or locked, and is not tried again.
    PinRefused {
        /// The error, with its remedy.
        why: String,
    },
}

/// A call that takes longer may be one that hangs.
const LONG: Duration = Duration::from_secs(10);

/// The thread writes it, everybody reads it.
#[derive(Default)]
pub(super) struct CallMonitor(Mutex<CallGuard>);

#[derive(Default)]
struct CallGuard {
    call: Option<(&'static str, Instant)>,
    last: Option<TokenState>,
    /// Whether the token was found without the key that the config names.
    lacks_key: bool,
}

/// Takes the note of a call off the board, also when the call panics.
struct ActiveCall<'a>(&'a CallMonitor);

impl CallMonitor {
    /// Makes a call into the module, with a note of it while it lasts.
    pub(super) fn during<T>(&self, call: &'static str, make: impl FnOnce() -> T) -> T {
        lock(&self.0).call = Some((call, Instant::now()));
        let _note = ActiveCall(self);
        make()
    }

    pub(super) fn state(&self) -> TokenState {
        let notes = lock(&self.0);
        match notes.call {
            Some((call, since)) => TokenState::Busy { call, since },
            None => notes.last.clone().unwrap_or(TokenState::Unused),
        }
    }

    /// Whether the token would open something now. A call that is short says nothing: it is another caller's.
    pub(super) fn reach(&self) -> Reach {
        let notes = lock(&self.0);
        if let Some((call, since)) = notes.call
            && since.elapsed() > LONG
        {
            let lasted = in_words(since.elapsed());
            return Reach::Unknown(format!(
                "the PKCS#11 module has not returned from {call} for {lasted}; check the token's reader and pcscd"
            ));
        }
        match &notes.last {
            _ if notes.lacks_key => Reach::Out,
            Some(TokenState::Ready) => Reach::Ready,
            Some(TokenState::Away { .. } | TokenState::PinRefused { .. }) => Reach::Out,
            Some(TokenState::Unused | TokenState::Busy { .. }) | None => Reach::Unknown(
                "the token was not asked since the start; `psictl hsm status` asks it".into(),
            ),
        }
    }

    /// Takes note of how a request ended; the log is told when that is news.
    pub(super) fn note(&self, end: Result<(), &TokenError>) {
        let mut notes = lock(&self.0);
        match end.map_err(|error| error.kind) {
            Ok(()) => notes.lacks_key = false,
            Err(TokenErrorKind::NoKey) => notes.lacks_key = true,
            Err(_) => {}
        }
        let last = notes.last.take().unwrap_or(TokenState::Unused);
        let next = match end {
            Ok(()) => TokenState::Ready,
            Err(error) => match error.kind {
                TokenErrorKind::Pin => TokenState::PinRefused { why: error.to_string() },
                // The token is there, and whoever asked is told.
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
            (_, TokenState::Ready) => tracing::info!("the token is there and open"),
            (TokenState::Away { .. }, TokenState::Away { .. }) => {}
            (TokenState::PinRefused { why: before }, TokenState::PinRefused { why })
                if before == why => {}
            (_, TokenState::Away { why, .. } | TokenState::PinRefused { why }) => {
                tracing::warn!("the token is not usable: {why}");
            }
        }
        notes.last = Some(next);
    }

    /// For a caller whose patience is at its end.
    pub(super) fn overdue(&self, patience: Duration) -> TokenError {
        match lock(&self.0).call {
            Some((call, since)) => TokenError::busy(
                format!(
                    "the PKCS#11 module has not returned from {call} for {}",
                    in_words(since.elapsed())
                ),
                "psid goes on when it does; if that takes longer than the token ever took, check its \
                 reader and pcscd, and restart psid",
            ),
            None => TokenError::busy(
                format!("the token was not ready within {}", in_words(patience)),
                "try again; a first use opens a session, which takes half a minute on some tokens",
            ),
        }
    }
}

impl Drop for ActiveCall<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).call = None;
    }
}

fn in_words(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent() -> TokenError {
        TokenError::absent("nothing is in the slot", "plug it in")
    }

    #[test]
    fn a_state_is_what_the_last_request_found() {
        let board = CallMonitor::default();
        assert_eq!(board.state(), TokenState::Unused);
        board.note(Ok(()));
        assert_eq!(board.state(), TokenState::Ready);
        board.note(Err(&absent()));
        let TokenState::Away { since, why } = board.state() else { panic!("{:?}", board.state()) };
        assert_eq!(why, "nothing is in the slot; plug it in");
        board.note(Err(&absent()));
        assert_eq!(board.state(), TokenState::Away { since, why }, "since the first time");
        board.note(Err(&TokenError::refused("not this", "do that")));
        assert!(matches!(board.state(), TokenState::Away { .. }), "it says nothing of the token");
        board.note(Err(&TokenError::pin("wrong", "right it")));
        assert_eq!(board.state(), TokenState::PinRefused { why: "wrong; right it".into() });
    }

    #[test]
    fn what_is_known_of_the_token_is_never_more_than_the_last_request_found() {
        let board = CallMonitor::default();
        assert!(matches!(board.reach(), Reach::Unknown(_)), "it was not asked");
        board.note(Ok(()));
        assert_eq!(board.reach(), Reach::Ready);
        for error in [
            absent(),
            TokenError::pin("wrong", "right it"),
            TokenError::no_key("no such key", "make one"),
        ] {
            board.note(Err(&error));
            assert_eq!(board.reach(), Reach::Out, "{error}");
            board.note(Ok(()));
            assert_eq!(board.reach(), Reach::Ready);
        }
        // A blob for another key says nothing of the others, and a call that has just begun nothing at all.
        board.note(Err(&TokenError::refused("not this", "do that")));
        assert_eq!(board.reach(), Reach::Ready);
        board.during("C_Decrypt", || assert_eq!(board.reach(), Reach::Ready));
    }

    #[test]
    fn a_call_is_on_the_board_while_it_lasts_and_also_when_it_panics() {
        let board = CallMonitor::default();
        let told = board.during("C_Login", || {
            assert!(matches!(board.state(), TokenState::Busy { call: "C_Login", .. }));
            board.overdue(Duration::from_secs(9)).to_string()
        });
        assert!(
            told.starts_with("the PKCS#11 module has not returned from C_Login for "),
            "{told}"
        );
        let crash = || board.during("C_Sign", || panic!("in a test"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(crash)).is_err());
        assert_eq!(board.state(), TokenState::Unused);
        let told = board.overdue(Duration::from_secs(9)).to_string();
        assert!(told.starts_with("the token was not ready within 9 s; "), "{told}");
    }
}
