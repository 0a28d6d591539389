//! A login that failed: what that means, and when the next one is tried.

use std::time::Duration;

use tokio::time::Instant;

use crate::provider::infisical::client::LoginRequest;
use crate::provider::infisical::response::ApiError;
use crate::storage::failed_logins::RetryRule;

/// The default length of a lockout. Whoever tries during it may prolong it.
const AFTER_LOCKOUT: Duration = Duration::from_secs(300);
/// After a failure that may pass; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After a login whose token was refused at once; then twice as long each time.
const FIRST_FUTILE: Duration = Duration::from_secs(300);
const LONGEST_FUTILE: Duration = Duration::from_secs(3_600);

/// What a failed login means.
#[derive(Debug)]
pub(super) enum LoginFailure {
    /// The identity may not log in, or not now. That is remembered across restarts.
    Refused { why: String, retry: RetryRule },
    /// The server failed at it. That may pass soon.
    Passing(String),
    /// It says nothing of the login.
    Other(ApiError),
}

/// A pause that grows.
#[derive(Clone, Debug)]
pub(super) struct Pause {
    pub(super) until: Instant,
    length: Duration,
}

/// What the failure of a login with this proof means. A refusal is no word about any secret.
pub(super) fn judge(error: ApiError, proof: &LoginRequest, share: f64) -> LoginFailure {
    match error {
        ApiError::Token(why)
        | ApiError::Denied(why)
        | ApiError::Gone(why)
        | ApiError::ClientBug(why) => {
            let expired = if proof.expired {
                "; by this host's clock, what was sent has expired"
            } else {
                ""
            };
            LoginFailure::Refused { why: format!("{why}{expired}"), retry: RetryRule::Backoff }
        }
        ApiError::Locked(why) => {
            let pause = AFTER_LOCKOUT.mul_f64(1.0 + 0.5 * share);
            LoginFailure::Refused { why, retry: RetryRule::After(pause) }
        }
        ApiError::Throttled { why, wait } => {
            LoginFailure::Refused { why, retry: RetryRule::After(wait) }
        }
        ApiError::Internal(why) => match proof.hint_at_500 {
            Some(hint) => LoginFailure::Passing(format!("{why}; {hint}")),
            None => LoginFailure::Passing(why),
        },
        ApiError::Odd(why) => LoginFailure::Passing(why),
        ApiError::NoRoute => LoginFailure::Passing(format!(
            "Infisical has no route for the login by {}: is api_url right, and the server new enough?",
            proof.route
        )),
        other => LoginFailure::Other(other),
    }
}

impl Pause {
    /// After a failure that may pass, or of somebody who said how long to wait.
    pub(super) fn passing(before: Option<&Self>, wait: Option<Duration>) -> Self {
        let length = wait.unwrap_or_else(|| {
            before.map_or(FIRST_PAUSE, |before| (before.length * 2).min(LONGEST_PAUSE))
        });
        Self { until: Instant::now() + length, length }
    }

    /// After a login whose token was refused at once. `share`, from 0 to 1, is chance: the pause is up to
    /// half shorter or longer.
    pub(super) fn futile(before: Option<&Self>, share: f64) -> Self {
        let length = before.map_or(FIRST_FUTILE, |before| (before.length * 2).min(LONGEST_FUTILE));
        Self { until: Instant::now() + length.mul_f64(0.5 + share), length }
    }

    /// What is left of it; none when it is over.
    pub(super) fn left(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (left > Duration::ZERO).then_some(left)
    }
}

/// A span in words, rounded up.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    match seconds {
        ..90 => format!("{seconds} s"),
        _ => format!("{} min", seconds.div_ceil(60)),
    }
}

/// A number from 0 to 1.
pub(super) fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use psi_common::SecretBytes;

    use super::*;

    fn proof(hint_at_500: Option<&'static str>, expired: bool) -> LoginRequest {
        let secrets = vec![SecretBytes::new("a".into())];
        LoginRequest {
            route: "gcp-auth",
            body: serde_json::Value::Null,
            secrets,
            expired,
            hint_at_500,
        }
    }

    fn judged(error: ApiError) -> LoginFailure {
        judge(error, &proof(None, false), 0.0)
    }

    #[test]
    fn whatever_the_server_says_against_a_login_is_a_refused_login() {
        for error in [
            ApiError::Token("no".into()),
            ApiError::Denied("no".into()),
            ApiError::Gone("no".into()),
            ApiError::ClientBug("no".into()),
        ] {
            let judged = judged(error);
            assert!(
                matches!(&judged, LoginFailure::Refused { why, retry: RetryRule::Backoff } if why == "no"),
                "{judged:?}"
            );
        }
    }

    #[test]
    fn a_lockout_and_a_rate_limit_are_no_refusal_of_the_secret() {
        for share in [0.0, 0.5, 1.0] {
            match judge(ApiError::Locked("locked".into()), &proof(None, false), share) {
                LoginFailure::Refused { retry: RetryRule::After(pause), .. } => {
                    assert!(pause >= AFTER_LOCKOUT && pause <= AFTER_LOCKOUT * 3 / 2);
                }
                other => panic!("{other:?}"),
            }
        }
        let wait = Duration::from_secs(7);
        let throttled = judged(ApiError::Throttled { why: "429".into(), wait });
        assert!(matches!(
            throttled,
            LoginFailure::Refused { retry: RetryRule::After(pause), .. } if pause == wait
        ));
    }

    #[test]
    fn the_refusal_of_an_expired_token_says_so() {
        match judge(ApiError::Token("no".into()), &proof(None, true), 0.0) {
            LoginFailure::Refused { why, .. } => {
                assert_eq!(why, "no; by this host's clock, what was sent has expired");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_failure_of_the_server_may_pass_and_an_outage_says_nothing_of_the_login() {
        let hinted = judge(ApiError::Internal("500".into()), &proof(Some("check it"), false), 0.0);
        assert!(matches!(hinted, LoginFailure::Passing(why) if why == "500; check it"));
        assert!(matches!(judged(ApiError::Odd("a page".into())), LoginFailure::Passing(_)));
        assert!(matches!(judged(ApiError::NoRoute), LoginFailure::Passing(_)));
        assert!(matches!(judged(ApiError::Outage("no".into())), LoginFailure::Other(_)));
        assert!(matches!(judged(ApiError::TimedOut("no".into())), LoginFailure::Other(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_their_limits() {
        let mut pause = Pause::passing(None, None);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(pause.left(), Some(Duration::from_secs(seconds)));
            pause = Pause::passing(Some(&pause), None);
        }
        let wait = Duration::from_secs(100);
        assert_eq!(Pause::passing(Some(&pause), Some(wait)).left(), Some(wait));
        let mut pause = Pause::futile(None, 0.5);
        for minutes in [5, 10, 20, 40, 60, 60] {
            assert_eq!(pause.left(), Some(Duration::from_secs(minutes * 60)));
            pause = Pause::futile(Some(&pause), 0.5);
        }
        assert_eq!(Pause::futile(None, 0.0).left(), Some(Duration::from_secs(150)));
        assert_eq!(Pause::futile(None, 1.0).left(), Some(Duration::from_secs(450)));
    }

    #[test]
    fn spans_are_in_words() {
        for (millis, words) in [(0, "0 s"), (1, "1 s"), (89_000, "89 s"), (90_000, "2 min")] {
            assert_eq!(span(Duration::from_millis(millis)), words);
        }
    }
}
