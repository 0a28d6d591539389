//! Failed logins: the meaning of an error, and the backoff before the next login.

use std::time::Duration;

use tokio::time::Instant;

use super::NoCredential;
use crate::provider::ProviderError;
use crate::provider::infisical::client::LoginRequest;
use crate::provider::infisical::response::ApiError;
use crate::storage::failed_logins::{FailedLogin, RetryRule};

/// The default length of a lockout. A login during it may prolong it.
const AFTER_LOCKOUT: Duration = Duration::from_secs(300);
/// The pause after a transient failure; it doubles each time up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a login whose new token was refused; it doubles each time up to the longest one.
const FIRST_REJECTED: Duration = Duration::from_secs(300);
const LONGEST_REJECTED: Duration = Duration::from_secs(3_600);

/// The meaning of a failed login.
#[derive(Debug)]
pub(super) enum LoginFailure {
    /// The identity may not log in, or not now. That is remembered across restarts.
    Refused { why: String, retry: RetryRule },
    /// The server failed, and may succeed soon.
    Transient(String),
    /// The error does not concern the login.
    Other(ProviderError),
}

/// Why a login failed.
#[derive(Debug)]
pub(in crate::provider::infisical) enum LoginError {
    /// There is nothing to log in with.
    NoCredential(NoCredential),
    /// The server refuses the login, now or in an attempt that is remembered.
    Refused { refusal: FailedLogin, is_remembered: bool },
    /// The server failed, which may pass soon.
    Transient(String),
    /// The error does not concern the login.
    Other(ProviderError),
}

/// A pause before the next login, which grows with each failure.
#[derive(Clone, Debug)]
pub(super) struct LoginBackoff {
    pub(super) until: Instant,
    length: Duration,
}

/// Classifies the error of a login. A refused login is no evidence about any secret.
pub(super) fn classify(error: ApiError, login: &LoginRequest, jitter: f64) -> LoginFailure {
    use ProviderError as E;
    match error {
        ApiError::Provider(
            E::Unauthenticated { why, wait: None }
            | E::Denied(why)
            | E::NotFound(why)
            | E::Misbehaved(why),
        ) => {
            let expired = if login.expired {
                "; by this host's clock, the credential has expired"
            } else {
                ""
            };
            LoginFailure::Refused { why: format!("{why}{expired}"), retry: RetryRule::Backoff }
        }
        ApiError::Provider(E::Unauthenticated { why, wait: Some(_) }) => {
            let pause = AFTER_LOCKOUT.mul_f64(1.0 + 0.5 * jitter);
            LoginFailure::Refused { why, retry: RetryRule::After(pause) }
        }
        ApiError::Provider(E::Throttled { why, wait }) => {
            LoginFailure::Refused { why, retry: RetryRule::After(wait) }
        }
        ApiError::Internal(why) => LoginFailure::Transient(match login.hint_at_500 {
            Some(hint) => format!("{why}; {hint}"),
            None => why,
        }),
        ApiError::NoRoute => LoginFailure::Transient(format!(
            "Infisical has no route for the login by {}; check api_url and the server's version",
            login.route
        )),
        ApiError::Provider(E::Failed(why)) => LoginFailure::Transient(why),
        ApiError::Provider(other) => LoginFailure::Other(other),
    }
}

impl LoginBackoff {
    /// The pause after a transient failure; `wait` is the time for which a server asked.
    pub(super) fn after_failure(before: Option<&Self>, wait: Option<Duration>) -> Self {
        let length = wait.unwrap_or_else(|| {
            before.map_or(FIRST_PAUSE, |before| (before.length * 2).min(LONGEST_PAUSE))
        });
        Self { until: Instant::now() + length, length }
    }

    /// The pause after a login whose new token was refused. `jitter`, from 0 to 1, makes it up to half shorter
    /// or longer.
    pub(super) fn after_rejected_token(before: Option<&Self>, jitter: f64) -> Self {
        let length =
            before.map_or(FIRST_REJECTED, |before| (before.length * 2).min(LONGEST_REJECTED));
        Self { until: Instant::now() + length.mul_f64(0.5 + jitter), length }
    }

    /// The rest of the pause; none when it is over.
    pub(super) fn left(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (left > Duration::ZERO).then_some(left)
    }
}

/// A time span for messages, rounded up.
pub(in crate::provider::infisical) fn span(span: Duration) -> String {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    match seconds {
        ..90 => format!("{seconds} s"),
        _ => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use psi_common::SecretString;

    use super::*;

    fn request(hint_at_500: Option<&'static str>, expired: bool) -> LoginRequest {
        let credential = SecretString::new("a".into());
        let request = LoginRequest::new("gcp-auth", serde_json::Value::Null, credential);
        LoginRequest { expired, hint_at_500, ..request }
    }

    fn classified(error: impl Into<ApiError>) -> LoginFailure {
        classify(error.into(), &request(None, false), 0.0)
    }

    fn rejected() -> ProviderError {
        ProviderError::Unauthenticated { why: "no".into(), wait: None }
    }

    fn locked() -> ProviderError {
        let wait = Some(Duration::from_secs(60));
        ProviderError::Unauthenticated { why: "locked".into(), wait }
    }

    #[test]
    fn client_errors_of_the_server_refuse_the_login() {
        for error in [
            rejected(),
            ProviderError::Denied("no".into()),
            ProviderError::NotFound("no".into()),
            ProviderError::Misbehaved("no".into()),
        ] {
            let classified = classified(error);
            assert!(
                matches!(&classified, LoginFailure::Refused { why, retry: RetryRule::Backoff } if why == "no"),
                "{classified:?}"
            );
        }
    }

    #[test]
    fn lockout_and_rate_limit_do_not_refuse_the_credential() {
        for jitter in [0.0, 0.5, 1.0] {
            match classify(locked().into(), &request(None, false), jitter) {
                LoginFailure::Refused { retry: RetryRule::After(pause), .. } => {
                    assert!(pause >= AFTER_LOCKOUT && pause <= AFTER_LOCKOUT * 3 / 2);
                }
                other => panic!("{other:?}"),
            }
        }
        let wait = Duration::from_secs(7);
        let throttled = classified(ProviderError::Throttled { why: "429".into(), wait });
        assert!(matches!(
            throttled,
            LoginFailure::Refused { retry: RetryRule::After(pause), .. } if pause == wait
        ));
    }

    #[test]
    fn refusal_names_an_expired_credential() {
        match classify(rejected().into(), &request(None, true), 0.0) {
            LoginFailure::Refused { why, .. } => {
                assert_eq!(why, "no; by this host's clock, the credential has expired");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn server_failures_are_transient_and_outages_do_not_concern_the_login() {
        let hinted =
            classify(ApiError::Internal("500".into()), &request(Some("check it"), false), 0.0);
        assert!(matches!(hinted, LoginFailure::Transient(why) if why == "500; check it"));
        assert!(matches!(
            classified(ProviderError::Failed("a page".into())),
            LoginFailure::Transient(_)
        ));
        assert!(matches!(classified(ApiError::NoRoute), LoginFailure::Transient(_)));
        assert!(matches!(
            classified(ProviderError::Unreachable("no".into())),
            LoginFailure::Other(_)
        ));
        assert!(matches!(classified(ProviderError::TimedOut("no".into())), LoginFailure::Other(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_doubles_up_to_its_limit() {
        let mut pause = LoginBackoff::after_failure(None, None);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(pause.left(), Some(Duration::from_secs(seconds)));
            pause = LoginBackoff::after_failure(Some(&pause), None);
        }
        let wait = Duration::from_secs(100);
        assert_eq!(LoginBackoff::after_failure(Some(&pause), Some(wait)).left(), Some(wait));
        let mut pause = LoginBackoff::after_rejected_token(None, 0.5);
        for minutes in [5, 10, 20, 40, 60, 60] {
            assert_eq!(pause.left(), Some(Duration::from_secs(minutes * 60)));
            pause = LoginBackoff::after_rejected_token(Some(&pause), 0.5);
        }
        assert_eq!(
            LoginBackoff::after_rejected_token(None, 0.0).left(),
            Some(Duration::from_secs(150))
        );
        assert_eq!(
            LoginBackoff::after_rejected_token(None, 1.0).left(),
            Some(Duration::from_secs(450))
        );
    }

    #[test]
    fn spans_are_rounded_up() {
        for (millis, text) in [(0, "0 s"), (1, "1 s"), (89_000, "89 s"), (90_000, "2 min")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
