//! The permitted answers for each secret, and the check of the actual ones.

use parking_lot::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use psi_harness::Outcome;

/// The limit of a lookup: podman holds a host-wide lock meanwhile.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// A revocation takes effect when it was reported twice, a minute apart.
pub(super) const CONFIRMED_AFTER: Duration = Duration::from_secs(60);

/// All secrets, for clients that look them up and for the suite that changes them.
pub(super) struct Model {
    state: Mutex<State>,
}

pub(super) struct State {
    secrets: Vec<Secret>,
    /// The number of crashes of psid: each loses what was not on disk.
    life: u32,
    pub(super) counts: Counts,
    pub(super) failures: Vec<String>,
}

#[derive(Clone, Default)]
pub(super) struct Counts {
    pub(super) lookups: u64,
    pub(super) served: u64,
    /// Refusals of a secret that is revoked or about to be.
    pub(super) refused: u64,
    pub(super) slowest: Duration,
}

#[derive(Clone)]
struct Secret {
    name: String,
    /// The version at the provider.
    newest: u64,
    /// The newest version that psid is known to have had.
    floor: u64,
    /// The newest version that is known to be on its disk.
    durable: u64,
    standing: Standing,
    /// The number of changes of the standing by the suite.
    turn: u32,
}

/// The provider's state of a secret, and the answers that psid may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It must be served.
    Live,
    /// The provider denies it since then: it must be served for a minute and may be refused later.
    Denied(Instant),
    /// The provider removed it: it may be served until psid is known to have noticed.
    Gone,
    /// It was refused once: it must not be served any more.
    Revoked,
    /// The provider has it again, which psid may not know yet.
    Returning,
}

/// The state when a lookup began.
pub(super) struct Asked {
    at: usize,
    before: Secret,
    life: u32,
    began: Instant,
}

impl Model {
    /// All at version 1, cached and on disk.
    pub(super) fn of(names: Vec<String>) -> Self {
        let secret = |name| Secret {
            name,
            newest: 1,
            floor: 1,
            durable: 1,
            standing: Standing::Live,
            turn: 0,
        };
        let secrets = names.into_iter().map(secret).collect();
        let state = State { secrets, life: 0, counts: Counts::default(), failures: Vec::new() };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A lookup of a secret begins.
    pub(super) fn ask(&self, at: usize) -> Asked {
        let state = self.lock();
        Asked { at, before: state.secrets[at].clone(), life: state.life, began: Instant::now() }
    }

    /// Checks the outcome of a lookup.
    pub(super) fn answered(&self, asked: &Asked, outcome: &Outcome) {
        let took = asked.began.elapsed();
        let mut state = self.lock();
        let state = &mut *state;
        state.counts.lookups += 1;
        state.counts.slowest = state.counts.slowest.max(took);
        let fault = if took > DEADLINE {
            Err(format!("took {} ms, code {}", took.as_millis(), outcome.code))
        } else if outcome.code == 0 {
            state.counts.served += 1;
            state.served(asked, &outcome.stdout)
        } else {
            state.counts.refused += 1;
            state.refused(asked, outcome)
        };
        if let Err(why) = fault {
            state.failures.push(format!("{}: {why}", asked.before.name));
        }
    }
}

impl State {
    fn served(&mut self, asked: &Asked, stdout: &[u8]) -> Result<(), String> {
        let crashed = asked.life != self.life;
        let secret = &mut self.secrets[asked.at];
        let text = String::from_utf8_lossy(stdout);
        let version = version(&secret.name, &text).ok_or_else(|| format!("got {text:?}"))?;
        let floor = if crashed { secret.durable } else { asked.before.floor };
        if version < floor || version > secret.newest {
            return Err(format!("got version {version} of {floor} to {}", secret.newest));
        }
        let same = secret.turn == asked.before.turn && !crashed;
        if asked.before.standing == Standing::Revoked && same {
            return Err(format!("was served in version {version} after it was refused"));
        }
        if !crashed {
            secret.floor = secret.floor.max(version);
        }
        Ok(())
    }

    fn refused(&mut self, asked: &Asked, outcome: &Outcome) -> Result<(), String> {
        let secret = &mut self.secrets[asked.at];
        let may = |standing| may_be_refused(standing, outcome.code);
        if !may(asked.before.standing) && !may(secret.standing) {
            let message = outcome.stderr.trim_end();
            return Err(format!("{:?}, code {}: {message}", asked.before.standing, outcome.code));
        }
        let same = secret.turn == asked.before.turn && asked.life == self.life;
        let taken_away = matches!(secret.standing, Standing::Gone | Standing::Denied(_));
        if same && taken_away && outcome.code != 75 {
            secret.standing = Standing::Revoked;
        }
        Ok(())
    }

    /// The next version of a value, which the provider is about to get.
    pub(super) fn rotate(&mut self, at: usize) -> (String, String) {
        let secret = &mut self.secrets[at];
        secret.newest += 1;
        (secret.name.clone(), value(&secret.name, secret.newest))
    }

    /// The newest versions, for [`Self::acknowledge`].
    pub(super) fn newest(&self) -> Vec<u64> {
        self.secrets.iter().map(|secret| secret.newest).collect()
    }

    /// A refresh that began with these versions has succeeded, for the counted secrets.
    pub(super) fn acknowledge(&mut self, newest: &[u64], counts: impl Fn(usize) -> bool) {
        let secrets = self.secrets.iter_mut().zip(newest).enumerate();
        for (_, (secret, newest)) in secrets.filter(|(at, _)| counts(*at)) {
            match secret.standing {
                Standing::Live => secret.floor = secret.floor.max(*newest),
                Standing::Returning => {
                    secret.floor = secret.floor.max(*newest);
                    secret.turn += 1;
                    secret.standing = Standing::Live;
                }
                Standing::Gone => secret.standing = Standing::Revoked,
                Standing::Denied(_) | Standing::Revoked => {}
            }
        }
    }

    /// The versions that psid is known to have, for [`Self::keep`].
    pub(super) fn floors(&self) -> Vec<u64> {
        self.secrets.iter().map(|secret| secret.floor).collect()
    }

    /// psid has persisted these versions.
    pub(super) fn keep(&mut self, floors: &[u64]) {
        for (secret, floor) in self.secrets.iter_mut().zip(floors) {
            secret.durable = secret.durable.max(*floor);
        }
    }

    /// psid is about to be killed.
    pub(super) fn crash(&mut self) {
        self.life += 1;
        for secret in &mut self.secrets {
            secret.floor = secret.durable;
            if secret.standing == Standing::Revoked {
                // Whether that is on disk is unknown.
                secret.standing = Standing::Gone;
            }
        }
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.turn(at, Standing::Gone);
    }

    pub(super) fn deny(&mut self, at: usize) {
        self.turn(at, Standing::Denied(Instant::now()));
    }

    pub(super) fn give_back(&mut self, at: usize) {
        self.turn(at, Standing::Returning);
    }

    /// Whether a lookup was refused since the suite revoked it.
    pub(super) fn is_revoked(&self, at: usize) -> bool {
        self.secrets[at].standing == Standing::Revoked
    }

    /// Whether the provider has it, by the suite's changes.
    pub(super) fn is_there(&self, at: usize) -> bool {
        !matches!(self.secrets[at].standing, Standing::Gone | Standing::Revoked)
    }

    fn turn(&mut self, at: usize, standing: Standing) {
        let secret = &mut self.secrets[at];
        secret.turn += 1;
        secret.standing = standing;
    }
}

/// 66 is gone, 77 is denied, 75 is neither cached nor available.
fn may_be_refused(standing: Standing, code: i32) -> bool {
    let it_may = match standing {
        Standing::Live => false,
        Standing::Denied(since) => since.elapsed() >= CONFIRMED_AFTER,
        Standing::Gone | Standing::Revoked | Standing::Returning => true,
    };
    it_may && [66, 75, 77].contains(&code)
}

/// A value contains its name and version, and is long enough to be torn.
pub(super) fn value(name: &str, version: u64) -> String {
    format!("{name}#{version}#{}", name.repeat(20))
}

fn version(name: &str, text: &str) -> Option<u64> {
    let version = text.split('#').nth(1)?.parse().ok()?;
    (text == value(name, version)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: i32, stdout: &str) -> Outcome {
        Outcome { code, stdout: stdout.into(), stderr: "psi-driver: no".into() }
    }

    fn accepts(model: &Model, asked: &Asked, outcome: &Outcome) -> bool {
        model.answered(asked, outcome);
        model.lock().failures.pop().is_none()
    }

    fn is_right(model: &Model, code: i32, stdout: &str) -> bool {
        accepts(model, &model.ask(0), &answer(code, stdout))
    }

    #[test]
    fn model_rejects_foreign_or_older_value() {
        let model = Model::of(vec!["A".into(), "B".into()]);
        assert!(is_right(&model, 0, &value("A", 1)));
        assert!(!is_right(&model, 0, &value("B", 1)));
        assert!(!is_right(&model, 0, &value("A", 1)[..20]));
        assert!(!is_right(&model, 0, &value("A", 2)));
        assert!(!is_right(&model, 75, ""));
        model.lock().rotate(0);
        let early = model.ask(0);
        assert!(is_right(&model, 0, &value("A", 1)));
        assert!(is_right(&model, 0, &value("A", 2)));
        assert!(!is_right(&model, 0, &value("A", 1)));
        assert!(accepts(&model, &early, &answer(0, &value("A", 1))), "it began before that");
        model.lock().crash();
        assert!(is_right(&model, 0, &value("A", 1)), "version 2 was not on disk");
    }

    #[test]
    fn model_rejects_value_of_revoked_secret() {
        let model = Model::of(vec!["A".into()]);
        model.lock().deny(0);
        assert!(!is_right(&model, 77, ""), "not within a minute");
        model.lock().remove(0);
        let early = model.ask(0);
        assert!(is_right(&model, 0, &value("A", 1)));
        assert!(is_right(&model, 66, ""));
        assert!(!is_right(&model, 0, &value("A", 1)));
        assert!(!is_right(&model, 69, ""), "psid is there");
        assert!(accepts(&model, &early, &answer(0, &value("A", 1))), "it began before that");
        model.lock().give_back(0);
        assert!(is_right(&model, 66, ""));
        model.lock().acknowledge(&[1], |_| true);
        assert!(!is_right(&model, 66, ""));
    }
}
