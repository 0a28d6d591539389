//! An operation, rehearsed once and then tried with each fault at each of its changes of the disk.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::fixture::{Fixture, Step};
use super::observe::{IDS, Observed, observe};
use super::power::Disk;
use super::report::Report;
use super::shim::How;
use super::trace::{self, Call};
use super::tree::{Node, Tree};
use psi_harness::{FakeInfisical, Psid, id};

/// An operation under test.
pub(super) struct Operation {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// The disk before it.
    pub(super) base: fn(&FakeInfisical) -> Tree,
    /// Whether psid runs before the first step; otherwise the steps start it.
    pub(super) running: bool,
    /// Its steps.
    pub(super) steps: &'static [Step],
    /// Whether each step changes what is served.
    pub(super) visible: bool,
    /// Messages, in part, that psid may have after an interrupted operation.
    pub(super) bears: &'static [&'static str],
}

/// The operation without a fault.
struct Rehearsal {
    base: Tree,
    calls: Vec<Call>,
    /// The number of calls before the first step.
    before: usize,
    /// The number of calls at each acknowledgement.
    acknowledged: Vec<usize>,
    /// What psid serves before the first step and after each.
    seen: Vec<Observed>,
    bears: &'static [&'static str],
}

impl Operation {
    /// Tries everything; panics with all failures.
    pub(super) fn prove(&self, infisical: &FakeInfisical) {
        let plan = self.rehearse(infisical);
        let mut report = Report::new(self.name);
        let mut after_last = None;
        for (at, call) in (1..).zip(&plan.calls).skip(plan.before) {
            let mut outcomes = Vec::new();
            for how in How::ALL {
                let outcome = match how {
                    _ if !how.befalls(call) => Ok(String::new()),
                    // Nothing happens between two calls, unless a step is acknowledged.
                    How::Before if !plan.acknowledged.contains(&(at - 1)) => {
                        after_last.take().unwrap_or_else(|| self.kill(&plan, at, how))
                    }
                    how if how.kills() => self.kill(&plan, at, how),
                    how => self.fail(&plan, at, how),
                };
                if how == How::After {
                    after_last = Some(outcome.clone());
                }
                outcomes.push(outcome);
            }
            report.point(&call.to_string(), outcomes);
        }
        let (states, faults) = self.cut_power(&plan);
        report.power(states, faults);
        report.finish();
    }

    fn rehearse(&self, infisical: &FakeInfisical) -> Rehearsal {
        let base = an_hour_old((self.base)(infisical));
        let mut seen = vec![observe(&base)];
        let mut acknowledged = Vec::new();
        let mut fixture = Fixture::set(&base, Some(None));
        if self.running {
            fixture.start().unwrap();
        }
        let before = trace::read(&fixture.instance).len();
        for step in self.steps {
            step(&mut fixture).unwrap();
            acknowledged.push(trace::read(&fixture.instance).len());
            seen.push(observe(&fixture.tree()));
            let [.., before, after] = &seen[..] else { unreachable!() };
            assert_eq!(before != after, self.visible, "{before:?}, {after:?}");
        }
        fixture.crash();
        let calls = trace::read(&fixture.instance);
        assert!(calls.len() > before, "the shim saw nothing");
        Rehearsal { base, calls, before, acknowledged, seen, bears: self.bears }
    }

    /// Starts psid if the operation needs it, and makes the steps from `done` on.
    fn take(&self, fixture: &mut Fixture, done: usize) -> (usize, String) {
        if self.running
            && let Err(log) = fixture.start()
        {
            return (done, log);
        }
        let (more, why) = fixture.take(&self.steps[done..]);
        (done + more, why)
    }

    /// psid ends at a point: the next psid has the old state or the new one, and the operation can
    /// be completed.
    fn kill(&self, plan: &Rehearsal, at: usize, how: How) -> Result<String, String> {
        let mut fixture = Fixture::set(&plan.base, Some(Some((at, how))));
        let (done, _) = self.take(&mut fixture, 0);
        if self.running && !fixture.ends() {
            return Err("psid survived it".into());
        }
        plan.went_as_rehearsed(&fixture, at, how)?;
        let tree = fixture.tree();
        let (now, again) = plan.state(&observe(&tree), done)?;
        if again < self.steps.len() {
            let mut fixture = Fixture::set(&tree, None);
            let (end, why) = self.take(&mut fixture, again);
            if end < self.steps.len() {
                return Err(format!("it cannot be done any more: {why}"));
            }
            fixture.crash();
            plan.is_complete(&fixture.tree())?;
        }
        Ok(self.loads(now > done).into())
    }

    fn loads(&self, new: bool) -> &'static str {
        match (self.visible, new) {
            (false, _) => "whole",
            (true, true) => "new",
            (true, false) => "old",
        }
    }

    /// A call fails: psid continues, reports it, and a repetition succeeds.
    fn fail(&self, plan: &Rehearsal, at: usize, how: How) -> Result<String, String> {
        let mut fixture = Fixture::set(&plan.base, Some(Some((at, how))));
        let (done, why) = self.take(&mut fixture, 0);
        plan.went_as_rehearsed(&fixture, at, how)?;
        let tree = fixture.tree();
        let (now, mut again) = plan.state(&observe(&tree), done)?;
        let outcome = match done == self.steps.len() {
            true => "unharmed".into(),
            false => format!("reported, {}", self.loads(now > done)),
        };
        if done < self.steps.len() && !why.contains(how.words()) {
            return Err(format!("the cause is not reported: {why}"));
        }
        if self.running {
            if fixture.has_ended() {
                return Err("psid ended".into());
            }
            plan.serves(&fixture)?;
            // psid itself must recover: the client repeats its call.
            again = done;
        } else {
            fixture = Fixture::set(&tree, Some(None));
        }
        let (end, why) = self.take(&mut fixture, again);
        if end < self.steps.len() {
            return Err(format!("it cannot be done again: {why}"));
        }
        if self.running {
            let degraded = fixture.psid.as_ref().map_or_else(String::new, Psid::degraded);
            if !degraded.is_empty() {
                return Err(format!("it stays degraded: {degraded}"));
            }
            // A step that is acknowledged after a fault is durable too.
            let mut disk = Disk::new(&plan.base);
            trace::read(&fixture.instance).iter().for_each(|call| disk.follow(call));
            for tree in disk.after_power_cut() {
                plan.is_complete(&tree).map_err(|why| format!("after a power cut, {why}"))?;
            }
        } else if again < self.steps.len() {
            fixture.crash();
            plan.is_complete(&fixture.tree())?;
        }
        Ok(outcome)
    }

    /// The power fails after each call; returns the number of different disks, and the failures.
    fn cut_power(&self, plan: &Rehearsal) -> (usize, Vec<String>) {
        let mut disk = Disk::new(&plan.base);
        let mut tried = BTreeSet::new();
        let mut faults = Vec::new();
        for (at, call) in (1..).zip(&plan.calls) {
            disk.follow(call);
            let done = plan.acknowledged.iter().filter(|calls| **calls <= at).count();
            for tree in disk.after_power_cut() {
                if !tried.insert((done, tree.clone())) {
                    continue;
                }
                if let Err(why) = plan.state(&observe(&tree), done) {
                    faults.push(format!("after {at}, {call}: {why}; it has {}", tree.names()));
                }
            }
        }
        (tried.len(), faults)
    }
}

impl Rehearsal {
    /// Compares with the states after `done` steps and after the one under way. Returns the step to
    /// continue with: a repetition ends what psid reports.
    fn state(&self, found: &Observed, done: usize) -> Result<(usize, usize), String> {
        let candidates = done..=(done + 1).min(self.seen.len() - 1);
        for state in candidates.clone() {
            if self.seen[state] == *found {
                return Ok((state, state));
            }
            if self.seen[state].is_same(found, self.bears) {
                return Ok((state, done));
            }
        }
        let why = candidates.map(|state| found.differences(&self.seen[state]));
        Err(format!("neither state: {}", why.collect::<Vec<_>>().join(" / ")))
    }

    /// The count of calls is exact if the calls before the fault were the rehearsed ones and no
    /// other followed a kill.
    fn went_as_rehearsed(&self, fixture: &Fixture, at: usize, how: How) -> Result<(), String> {
        let names = |calls: &[Call]| calls.iter().map(ToString::to_string).collect::<Vec<_>>();
        let made = if how == How::Before { at - 1 } else { at };
        let (expected, mut found) =
            (names(&self.calls[..made]), names(&trace::read(&fixture.instance)));
        if !how.kills() {
            found.truncate(made);
        }
        match found == expected {
            true => Ok(()),
            false => Err(format!("it went otherwise than rehearsed: {found:?}")),
        }
    }

    /// Values that the operation does not concern are served in spite of the fault.
    fn serves(&self, fixture: &Fixture) -> Result<(), String> {
        for number in IDS {
            let value = self.seen[0].value(number);
            if value.is_none() || self.seen.iter().any(|seen| seen.value(number) != value) {
                continue;
            }
            let outcome = fixture.instance.driver(&["lookup"]).id(id(number)).run();
            if value.map(str::as_bytes) != Some(&outcome.stdout) {
                return Err(format!("{number} is not served: {}", outcome.stderr));
            }
        }
        Ok(())
    }

    fn is_complete(&self, tree: &Tree) -> Result<(), String> {
        let found = observe(tree);
        let last = self.seen.last().unwrap();
        match found == *last {
            true => Ok(()),
            false => Err(format!("at the end: {}", found.differences(last))),
        }
    }
}

/// Files get an older date, so that a date that a power cut takes back is an old one.
fn an_hour_old(mut tree: Tree) -> Tree {
    let then = SystemTime::now() - Duration::from_secs(3600);
    for (path, node) in &mut tree.0 {
        if let Node::File { modified, .. } = node
            && !path.starts_with("state/deleted")
        {
            *modified = then;
        }
    }
    tree
}
