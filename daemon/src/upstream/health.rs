//! How a provider fares: each call to it begins and ends here, whatever becomes of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Tally;
use crate::breaker::{Breaker, Caller, Pace, Pass, Permit, Trouble};
use crate::clock::{Moment, Tick};
use crate::provider::{Keeping, ProviderError, SecretProvider};

/// How long the log need not be told of the same complaint again.
const TOLD_LASTS: Duration = Duration::from_secs(86_400);

/// One provider and how it fares.
pub struct Upstream {
    /// Its name in the config.
    pub name: String,
    /// The provider.
    pub provider: Box<dyn SecretProvider>,
    health: Mutex<Health>,
    /// Grows with each answer, for those who wait for one.
    answers: watch::Sender<u64>,
}

/// How a provider fares.
pub struct Health {
    /// Whether it may be asked.
    pub breaker: Breaker,
    /// What its answers were.
    pub tally: Tally,
    complaint: Option<String>,
    /// The complaint that the log knows, and since when.
    told: Option<(String, Tick)>,
}

/// A call that is out.
pub struct Asking<'a> {
    upstream: &'a Upstream,
    pass: Option<Pass>,
    began: Moment,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing that others wait for.
    Same,
    /// The provider is back: what grew old meanwhile can be refreshed.
    Recovered,
}

impl Upstream {
    /// A provider that was never asked.
    pub fn new(name: &str, provider: Box<dyn SecretProvider>) -> Self {
        let pace = match provider.keeping() {
            Keeping::OnDisk => Pace::SERVER,
            Keeping::InRam => Pace::DEVICE,
        };
        let health = Health {
            breaker: Breaker::new(pace),
            tally: Tally::default(),
            complaint: None,
            told: None,
        };
        let answers = watch::Sender::new(0);
        Self { name: name.to_owned(), provider, health: Mutex::new(health), answers }
    }

    /// Its health.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call, unless that is forbidden now.
    pub fn ask(&self, caller: Caller, began: Moment) -> Result<Asking<'_>, ProviderError> {
        let pass = self.health().breaker.begin(caller, began.mono);
        let pass = pass.map_err(ProviderError::Unreachable)?;
        Ok(Asking { upstream: self, pass: Some(pass), began })
    }

    /// Waits until it may be asked; false when that will not be before `limit`, or in an outage. For those
    /// who have nothing to serve: one lost packet need not be their end, and podman holds a lock meanwhile.
    pub async fn admits(&self, limit: Instant) -> bool {
        loop {
            let mut answers = self.answers.subscribe();
            let (permit, is_outage) = {
                let breaker = &self.health().breaker;
                let is_outage = breaker.trouble().is_some_and(Trouble::is_outage);
                (breaker.permit(Caller::Anybody, Instant::now()), is_outage)
            };
            let until = match permit {
                Permit::Now => return true,
                _ if is_outage => return false,
                Permit::Refused => return false,
                Permit::NotBefore(time) if time > limit => return false,
                Permit::NotBefore(time) => time,
                Permit::AwaitProbe => limit,
            };
            let news = tokio::time::timeout_at(until, answers.changed()).await;
            if news.is_err() && until >= limit {
                return false;
            }
        }
    }

    /// Its last answer, when that was a refusal that an admin must see to.
    pub fn complaint(&self) -> Option<String> {
        self.health().complaint.clone()
    }
}

impl Asking<'_> {
    /// Takes note of the answer. The log is told once when the provider goes out or comes back, and once
    /// of each new complaint.
    pub fn end<T>(mut self, answer: &Result<T, ProviderError>, now: Moment) -> After {
        let Some(pass) = self.pass.take() else { return After::Same };
        let name = &self.upstream.name;
        let mut health = self.upstream.health();
        health.tally.count(answer);
        let why = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let before = health.breaker.trouble().map(Standing::of).unwrap_or_default();
        let mut after = After::Same;
        match answer {
            Err(
                ProviderError::Throttled { wait, .. } | ProviderError::Unavailable { wait, .. },
            ) => {
                health.breaker.throttled(&pass, now, &why, *wait);
            }
            Err(
                ProviderError::Unreachable(_)
                | ProviderError::TimedOut(_)
                | ProviderError::Failed(_),
            ) => {
                health.breaker.failed(&pass, now, &why, chance());
            }
            Err(ProviderError::Unauthenticated(_)) => health.breaker.unasked(&pass),
            Ok(_) | Err(_) => {
                if let Some(trouble) = health.breaker.answered(&pass) {
                    tell_end(name, &trouble, now.mono);
                    after = After::Recovered;
                }
            }
        }
        match health.breaker.trouble().map(Standing::of).unwrap_or_default() {
            same if same == before => {}
            Standing::Outage => {
                tracing::warn!("{name} is out, and what is cached is served: {why}");
            }
            Standing::Asked => {
                tracing::warn!("{name} asks us to wait, and what is cached is served: {why}");
            }
            Standing::Well => {}
        }
        health.hear(name, answer, now.tick);
        drop(health);
        self.upstream.answers.send_modify(|count| *count += 1);
        after
    }

    /// When it began.
    pub fn began(&self) -> Moment {
        self.began
    }
}

impl Drop for Asking<'_> {
    /// Who was about to ask has gone, or crashed.
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.upstream.health().breaker.unasked(&pass);
            self.upstream.answers.send_modify(|count| *count += 1);
        }
    }
}

impl Health {
    fn hear<T>(&mut self, name: &str, answer: &Result<T, ProviderError>, now: Tick) {
        let complaint = match answer {
            Ok(_) => None,
            Err(
                ProviderError::Denied(why)
                | ProviderError::Unauthenticated(why)
                | ProviderError::Misbehaved(why),
            ) => Some(why.clone()),
            Err(_) => return,
        };
        // One source that is denied among others that are not must not be told each time.
        let known = |why: &String| {
            self.told.as_ref().is_some_and(|(told, at)| told == why && at.age(now) < TOLD_LASTS)
        };
        if let Some(why) = complaint.as_ref().filter(|why| !known(why)) {
            tracing::warn!("{name} does not give what it is asked for: {why}");
            self.told = Some((why.clone(), now));
        }
        self.complaint = complaint;
    }
}

/// What the log is told of, once.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// It answers, or failed but once.
    #[default]
    Well,
    /// It is out.
    Outage,
    /// It asked to be left alone.
    Asked,
}

impl Standing {
    fn of(trouble: &Trouble) -> Self {
        match trouble {
            trouble if trouble.is_outage() => Self::Outage,
            trouble if trouble.asked_to_wait() => Self::Asked,
            _ => Self::Well,
        }
    }
}

fn tell_end(name: &str, trouble: &Trouble, now: Instant) {
    let (failed, lasted) = (trouble.failed, trouble.lasted(now).as_secs());
    if Standing::of(trouble) == Standing::Well {
        return tracing::debug!("{name} is back after {failed} requests failed: {}", trouble.why);
    }
    tracing::info!(failed, lasted, "{name} is back after {lasted} s; {failed} requests failed");
}

/// A number from 0 to 1.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use async_trait::async_trait;

    use super::*;
    use crate::cache::Ticket;
    use crate::clock;
    use crate::provider::{Fetched, Listed, Source};
    use crate::reference::{Coordinates, Extent, Realm, Reference};

    struct Nobody;

    #[async_trait]
    impl SecretProvider for Nobody {
        fn accept(&self, _: &Reference) -> Result<Coordinates, String> {
            Err("nobody".into())
        }

        async fn fetch(&self, _: &Reference, _: Ticket) -> Result<Fetched, ProviderError> {
            Err(out())
        }

        fn extent(&self, _: &Source) -> Result<Extent, String> {
            Err("nobody".into())
        }

        async fn list(&self, _: &Source, _: &BTreeSet<String>) -> Result<Listed, ProviderError> {
            Err(out())
        }

        fn knows(&self, _: &Realm) -> bool {
            false
        }

        fn keeping(&self) -> Keeping {
            Keeping::OnDisk
        }

        fn writer(&self) -> Option<&dyn crate::provider::SecretWriter> {
            None
        }
    }

    fn out() -> ProviderError {
        ProviderError::Unreachable("refused".into())
    }

    fn ask(upstream: &Upstream) -> Asking<'_> {
        upstream.ask(Caller::Anybody, clock::now()).unwrap()
    }

    fn answer(upstream: &Upstream, answer: &Result<(), ProviderError>) -> After {
        ask(upstream).end(answer, clock::now())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_has_nothing_waits_out_a_lost_packet_and_not_an_outage() {
        let upstream = Upstream::new("nobody", Box::new(Nobody));
        let start = Instant::now();
        assert!(upstream.admits(start).await);
        answer(&upstream, &Err(out()));
        assert!(!upstream.admits(start + SECOND / 2).await);
        assert!(upstream.admits(start + 9 * SECOND).await);
        assert!(start.elapsed() >= SECOND && start.elapsed() < 2 * SECOND);
        answer(&upstream, &Err(out()));
        let asked = Instant::now();
        assert!(!upstream.admits(asked + 9 * SECOND).await);
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_probe_goes_on_with_its_answer() {
        let upstream = Upstream::new("nobody", Box::new(Nobody));
        answer(&upstream, &Err(out()));
        tokio::time::advance(2 * SECOND).await;
        let probe = ask(&upstream);
        let start = Instant::now();
        let answers = async {
            tokio::time::advance(SECOND).await;
            probe.end(&Ok(()), clock::now())
        };
        let (admitted, after) = tokio::join!(upstream.admits(start + 9 * SECOND), answers);
        assert!(admitted);
        assert_eq!((start.elapsed(), after), (SECOND, After::Recovered));
        // A probe whose task crashed lets the next one through.
        answer(&upstream, &Err(out()));
        tokio::time::advance(2 * SECOND).await;
        drop(ask(&upstream));
        assert!(upstream.admits(Instant::now()).await);
    }

    #[test]
    fn answers_are_counted_by_what_they_were() {
        let upstream = Upstream::new("nobody", Box::new(Nobody));
        answer(&upstream, &Ok(()));
        for error in [
            ProviderError::NotFound("no".into()),
            ProviderError::Denied("no".into()),
            ProviderError::Unauthenticated("no".into()),
            ProviderError::Misbehaved("no".into()),
            out(),
        ] {
            answer(&upstream, &Err(error));
        }
        let tally = upstream.health().tally;
        let Tally { given, unreachable, throttled, .. } = tally;
        assert_eq!((given, unreachable, throttled), (1, 1, 0));
        assert_eq!(
            (tally.gone, tally.denied, tally.unauthenticated, tally.misbehaved),
            (1, 1, 1, 1)
        );
        assert_eq!(upstream.complaint().as_deref(), Some("no"));
    }
}
