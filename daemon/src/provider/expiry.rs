//! The end of a login's credential: a static access token, a client certificate, a token in a file.

use std::time::Duration;

use psi_common::{CheckedCredential, Problem};

use crate::model::clock::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// A new credential is asked for so long before the end, or in the last third of a shorter life.
const NOTICE: Duration = Duration::from_secs(30 * 86_400);
/// psid is degraded so long before the end, or in the last sixth of a shorter life.
const ALARM: Duration = Duration::from_secs(7 * 86_400);

/// How long something is valid, by its own text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// The beginning, if it is known.
    pub(crate) start: Option<Timestamp>,
    /// The end.
    pub(crate) end: Timestamp,
}

/// A credential of a login that expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialExpiry {
    /// The method and the identity's id.
    pub(crate) identity: String,
    /// The credential, such as "the certificate in /etc/psi/client.pem".
    pub(crate) credential: String,
    /// How long it is valid.
    pub(crate) validity: Validity,
    /// Whether an agent replaces it: then only its end is reported.
    pub(crate) is_rotated: bool,
    /// The command or the change that replaces it.
    pub(crate) remedy: String,
}

/// How soon a credential must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Not yet.
    None,
    /// Soon: a notice for an admin; nothing is wrong.
    Notice,
    /// Now: psid is degraded.
    Alarm,
}

impl CredentialExpiry {
    /// The method and the identity's id.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// For a report.
    pub(crate) fn checked(&self, now: Timestamp) -> CheckedCredential {
        let warning = self.warning(now, Urgency::Notice);
        CheckedCredential {
            what: self.sentence(now),
            expires_ms: self.validity.end.as_millis(),
            remedy: warning.map_or_else(String::new, |warning| warning.remedy),
        }
    }

    /// "the certificate in /etc/psi/client.pem expires in 23 days"
    fn sentence(&self, now: Timestamp) -> String {
        let end = self.validity.end;
        match end > now {
            true => format!("{} expires in {}", self.credential, coarse(now.until(end))),
            false => format!("{} expired {} ago", self.credential, coarse(end.age(now))),
        }
    }

    /// How soon it must be replaced.
    fn urgency(&self, now: Timestamp) -> Urgency {
        let Validity { start, end } = self.validity;
        let left = now.until(end);
        let life = start.map_or(Duration::MAX, |start| start.age(end));
        match left {
            Duration::ZERO => Urgency::Alarm,
            _ if self.is_rotated => Urgency::None,
            left if left <= ALARM.min(life / 6) => Urgency::Alarm,
            left if left <= NOTICE.min(life / 3) => Urgency::Notice,
            _ => Urgency::None,
        }
    }

    /// What happens, and what replaces it; none while it is less urgent.
    pub(crate) fn warning(&self, now: Timestamp, at_least: Urgency) -> Option<Problem> {
        let is_due = self.urgency(now) >= at_least;
        is_due.then(|| Problem::new(self.sentence(now), self.remedy.as_str()))
    }
}

/// A span in its largest fitting unit.
fn coarse(span: Duration) -> String {
    let (count, unit) = match span {
        span if span >= 2 * DAY => (span.as_secs() / DAY.as_secs(), "days"),
        span if span >= 2 * HOUR => (span.as_secs() / HOUR.as_secs(), "h"),
        span => (span.as_secs().div_ceil(60), "min"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(life: Option<Duration>, is_rotated: bool) -> (CredentialExpiry, Timestamp) {
        let end = Timestamp::from_millis(2_000_000_000_000);
        let validity = Validity { start: life.map(|life| end.before(life)), end };
        let expiry = CredentialExpiry {
            identity: "tls-cert identity i".into(),
            credential: "the certificate in /c".into(),
            validity,
            is_rotated,
            remedy: "have it replaced".into(),
        };
        (expiry, end)
    }

    #[test]
    fn long_lives_are_reported_by_days_and_short_ones_by_their_share() {
        for (life, left, urgency) in [
            (Some(365 * DAY), 31 * DAY, Urgency::None),
            (Some(365 * DAY), 30 * DAY, Urgency::Notice),
            (Some(365 * DAY), 7 * DAY, Urgency::Alarm),
            (None, 30 * DAY, Urgency::Notice),
            (None, 8 * DAY, Urgency::Notice),
            // Infisical's default for an access token.
            (Some(30 * DAY), 11 * DAY, Urgency::None),
            (Some(30 * DAY), 10 * DAY, Urgency::Notice),
            (Some(30 * DAY), 5 * DAY, Urgency::Alarm),
            (Some(24 * HOUR), 9 * HOUR, Urgency::None),
            (Some(24 * HOUR), 8 * HOUR, Urgency::Notice),
            (Some(24 * HOUR), 4 * HOUR, Urgency::Alarm),
            (Some(24 * HOUR), Duration::ZERO, Urgency::Alarm),
        ] {
            let (expiry, end) = expiry(life, false);
            assert_eq!(expiry.urgency(end.before(left)), urgency, "{life:?} {left:?}");
        }
        let (expiry, end) = expiry(Some(HOUR), true);
        assert_eq!(expiry.urgency(end.before(Duration::from_secs(1))), Urgency::None);
        assert_eq!(expiry.urgency(end.after(DAY)), Urgency::Alarm);
    }

    #[test]
    fn sentence_has_a_fitting_unit_and_the_warning_its_remedy() {
        let (expiry, end) = expiry(None, false);
        for (now, text) in [
            (end.before(40 * DAY), "expires in 40 days"),
            (end.before(47 * HOUR), "expires in 47 h"),
            (end.before(Duration::from_secs(90)), "expires in 2 min"),
            (end, "expired 0 min ago"),
            (end.after(3 * DAY), "expired 3 days ago"),
        ] {
            assert_eq!(expiry.sentence(now), format!("the certificate in /c {text}"));
        }
        assert_eq!(expiry.warning(end.before(40 * DAY), Urgency::Notice), None);
        let warning = expiry.warning(end.before(3 * DAY), Urgency::Alarm).unwrap().to_string();
        assert_eq!(warning, "the certificate in /c expires in 3 days; have it replaced");
    }
}
