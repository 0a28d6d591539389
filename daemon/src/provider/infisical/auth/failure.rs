//! A login that failed: what that means, and how long nobody tries again.

use std::time::Duration;

use psi_common::SecretBytes;
use tokio::time::Instant;

use crate::provider::infisical::answer::ApiError;
use crate::provider::infisical::api::Proof;

/// After a refused login: three bad tries within 30 s lock the identity for every host that shares it.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// A lockout's default length.
const AFTER_LOCKOUT: Duration = Duration::from_secs(300);
/// After a login that did not get through: those who waited for it need not all try again.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);
/// Where there is nothing to log in with, no breaker counts: the pause doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The last login, which failed.
pub(super) struct Failure {
    pub(super) error: ApiError,
    pause: Duration,
    until: Instant,
    /// What was refused: another secret need not wait.
    secret: Option<SecretBytes>,
}

impl Failure {
    /// There was no proof to log in with.
    pub(super) fn unproven(error: ApiError, before: Option<&Self>) -> Self {
        let pause = error.wait().unwrap_or_else(|| longer(before));
        Self { error, pause, until: Instant::now() + pause, secret: None }
    }

    /// The login was not answered with a token.
    pub(super) fn of_login(error: ApiError, mut proof: Proof, before: Option<&Self>) -> Self {
        let (error, pause) = judge(error, &proof, longer(before));
        let about_secret = matches!(error, ApiError::Denied(_)) || proof.expired;
        let secret = about_secret.then(|| proof.secrets.swap_remove(0));
        Self { error, pause, until: Instant::now() + pause, secret }
    }

    /// Whether nobody is to try yet.
    pub(super) fn lasts(&self) -> bool {
        Instant::now() < self.until
    }

    /// Whether it would be the same with this proof.
    pub(super) fn concerns(&self, proof: &Proof) -> bool {
        self.secret.as_ref().is_none_or(|refused| proof.is_made_of(refused))
    }
}

fn longer(before: Option<&Failure>) -> Duration {
    before.map_or(AFTER_OUTAGE, |failure| (failure.pause * 2).min(LONGEST_PAUSE))
}

fn judge(error: ApiError, proof: &Proof, longer: Duration) -> (ApiError, Duration) {
    match error {
        // Whoever is to renew it is out; the identity may be as good as ever.
        ApiError::Token(why) | ApiError::Denied(why) if proof.expired => {
            let why = format!("{why}; by this host's clock, what was sent has expired");
            (ApiError::no_credential(why), AFTER_REFUSAL)
        }
        // A 401 at login is about the credentials, not about a token.
        ApiError::Token(why) | ApiError::Denied(why) => (ApiError::Denied(why), AFTER_REFUSAL),
        ApiError::Locked(_) => (error, AFTER_LOCKOUT),
        // The identity has no such method. The word of a login is no word about a secret.
        ApiError::Gone(why) => (ApiError::no_credential(why), AFTER_REFUSAL),
        // No outage: whoever logs in otherwise is served.
        ApiError::Internal(why) if let Some(hint) = proof.hint_at_500 => {
            (ApiError::no_credential(format!("{why}; {hint}")), longer)
        }
        ApiError::Throttled { wait, .. } => (error, wait),
        _ => (error, AFTER_OUTAGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(secret: &str, hint_at_500: Option<&'static str>) -> Proof {
        let secrets = vec![SecretBytes::new(secret.into())];
        let body = serde_json::Value::Null;
        Proof { route: "gcp-auth", body, secrets, expired: false, hint_at_500 }
    }

    #[test]
    fn another_secret_need_not_wait_for_the_end_of_a_refusal() {
        let refused = Failure::of_login(ApiError::Token("no".into()), proof("a", None), None);
        assert!(matches!(refused.error, ApiError::Denied(_)));
        assert_eq!(refused.pause, AFTER_REFUSAL);
        assert!(refused.lasts());
        assert!(refused.concerns(&proof("a", None)) && !refused.concerns(&proof("b", None)));
        let locked = Failure::of_login(ApiError::Locked("no".into()), proof("a", None), None);
        assert_eq!(locked.pause, AFTER_LOCKOUT);
        assert!(locked.concerns(&proof("b", None)));
    }

    #[test]
    fn the_refusal_of_an_expired_token_is_no_word_about_the_identity() {
        let expired = Proof { expired: true, ..proof("a", None) };
        let refused = Failure::of_login(ApiError::Token("no".into()), expired, None);
        assert!(matches!(refused.error, ApiError::NoCredential { .. }));
        assert!(refused.concerns(&proof("a", None)) && !refused.concerns(&proof("b", None)));
    }

    #[test]
    fn where_there_is_no_proof_the_pause_doubles_to_half_a_minute() {
        let mut failure = Failure::unproven(ApiError::no_credential("none".into()), None);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(failure.pause, Duration::from_secs(seconds));
            failure = Failure::unproven(failure.error.clone(), Some(&failure));
        }
        let wait = Some(Duration::from_secs(100));
        let busy = ApiError::NoCredential { why: "busy".into(), wait };
        assert_eq!(Failure::unproven(busy, Some(&failure)).pause, Duration::from_secs(100));
    }

    #[test]
    fn a_500_is_an_outage_unless_it_may_be_a_refusal() {
        let failed = |hint| {
            let error = ApiError::Internal("Infisical answers 500".into());
            Failure::of_login(error, proof("a", hint), None).error
        };
        assert!(matches!(failed(None), ApiError::Internal(_)));
        match failed(Some("see to it")) {
            ApiError::NoCredential { why, .. } => {
                assert_eq!(why, "Infisical answers 500; see to it");
            }
            other => panic!("{other}"),
        }
    }
}
