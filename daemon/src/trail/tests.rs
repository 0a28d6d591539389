//! The trail without a journal: what it counts, and what it remembers.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use parking_lot::Mutex;
use psi_common::SecretId;

use super::{Actor, Event, LastUse, MAX_WAITING, Record, Trail, TrailSubject, Use};
use crate::lookup::ValueVersion;
use crate::model::clock::{self, Now, Timestamp};

fn id(digit: char) -> SecretId {
    digit.to_string().repeat(25).parse().unwrap()
}

fn actor(uid: u32, unit: &str) -> Actor {
    Actor { uid: Some(uid), unit: Some(unit.into()) }
}

fn lookup(secret: &TrailSubject, uid: u32, unit: &str, changed: u64) -> Use<'static> {
    let version = Some(ValueVersion::Kept(1, Timestamp::from_millis(changed)));
    Use { actor: actor(uid, unit), secret: secret.clone(), version, outcome: "ok" }
}

/// How many of the lookups are recorded.
fn recorded(uses: &[Use<'_>]) -> u64 {
    let trail = Trail::start(|_| None);
    uses.iter().for_each(|used| trail.used(used, clock::now()));
    trail.totals().recorded
}

#[test]
fn lookup_is_recorded_once_for_each_caller_and_value() {
    let a = TrailSubject::Id(id('a'));
    assert_eq!(recorded(&[lookup(&a, 0, "web.service", 1), lookup(&a, 0, "web.service", 1)]), 1);
    let callers = [
        lookup(&a, 0, "web.service", 1),
        lookup(&a, 0, "db.service", 1),
        lookup(&a, 7, "web.service", 1),
        lookup(&TrailSubject::Id(id('b')), 0, "web.service", 1),
        // Its value changed.
        lookup(&a, 0, "web.service", 2),
        // It failed.
        Use { version: None, outcome: "unavailable", ..lookup(&a, 0, "web.service", 1) },
        // Values that psid does not keep.
        Use { version: Some(ValueVersion::Bytes(b"1")), ..lookup(&a, 0, "web.service", 1) },
        Use { version: Some(ValueVersion::Bytes(b"2")), ..lookup(&a, 0, "web.service", 1) },
    ];
    assert_eq!(recorded(&callers), callers.len() as u64);
}

/// A caller can write one reference in many ways.
#[test]
fn other_spelling_of_a_reference_is_no_other_lookup() {
    let spelt = |text: &str| lookup(&TrailSubject::name(text), 7, "web.service", 1);
    assert_eq!(recorded(&[spelt("{\"a\":1}"), spelt("{ \"a\":1}"), spelt("app--A")]), 1);
}

#[test]
fn last_use_is_the_last_answered_lookup_and_goes_with_the_registration() {
    let (trail, now) = (Trail::start(|_| None), clock::now());
    let a = TrailSubject::Id(id('a'));
    trail.used(&lookup(&a, 0, "web.service", 1), now);
    trail.used(&lookup(&a, 7, "db.service", 1), now);
    trail.used(&Use { version: None, outcome: "unknown", ..lookup(&a, 9, "x.service", 1) }, now);
    let last = LastUse { at: now.wall, uid: 7, unit: Some("db.service".into()) };
    assert_eq!(trail.last_uses(), [(id('a'), last)].into());
    let failed = Record::new(Event::Delete, actor(7, "x.service"), a.clone(), "unavailable");
    trail.record(failed, now);
    assert_eq!(trail.last_uses().len(), 1);
    trail.record(Record::new(Event::Delete, actor(7, "x.service"), a, "ok"), now);
    assert!(trail.last_uses().is_empty());
}

/// A journal that does not read must not hold up a lookup, nor fill the memory.
#[test]
fn stalled_journal_leaves_records_out_and_counts_them() {
    let (release, held) = sync_channel::<()>(0);
    let held = Mutex::new(held);
    let trail = Arc::new(Trail::start(move |_| held.lock().recv().ok().map(|()| String::new())));
    let total = 2 * MAX_WAITING as u64;
    let start = clock::now();
    for number in 0..total {
        // Of many users, for the budget of one is smaller.
        let uid = u32::try_from(number).unwrap() % 500;
        let record =
            Record::new(Event::Store, actor(uid, "a.service"), TrailSubject::Id(id('a')), "ok");
        trail.record(record, start);
    }
    assert!(start.mono.elapsed() < Duration::from_secs(5));
    let totals = trail.totals();
    assert_eq!(totals.recorded + totals.left_out, total);
    assert!(totals.left_out >= total - MAX_WAITING as u64 - 2, "{totals:?}");
    drop(release);
    trail.close();
    trail.report_left_out(Now { mono: start.mono + Duration::from_secs(60), ..start });
}

#[test]
fn refusals_are_counted_even_if_they_are_left_out() {
    let trail = Trail::start(|_| None);
    for _ in 0..100 {
        let refused = Record::refusal(actor(7, "a.service"), "Rekey", TrailSubject::None);
        trail.record(refused, clock::now());
    }
    let totals = trail.totals();
    assert_eq!(totals.refusals, 100);
    assert_eq!((totals.recorded, totals.left_out), (20, 80));
}

#[test]
fn name_of_a_caller_is_one_short_line() {
    let TrailSubject::Name(name) =
        TrailSubject::name(&format!("a\n\u{1b}[2J{}", "x".repeat(10_000)))
    else {
        panic!("it is a name");
    };
    assert!(name.len() < 400 && !name.contains(char::is_control), "{name}");
}
