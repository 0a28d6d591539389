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
    let last = LastUse { at: now.wall, boot: now.boot, uid: 7, unit: Some("db.service".into()) };
    assert_eq!(trail.last_uses(), [(id('a'), last)].into());
    let failed = Record::new(Event::Delete, actor(7, "x.service"), a.clone(), "unavailable");
    trail.record(failed, now);
    assert_eq!(trail.last_uses().len(), 1);
    trail.record(Record::new(Event::Delete, actor(7, "x.service"), a, "ok"), now);
    assert!(trail.last_uses().is_empty());
}

/// The boot of a host with many containers.
#[test]
fn lookup_that_was_left_out_is_recorded_by_a_later_one() {
    let (trail, now) = (Trail::start(|_| None), clock::now());
    let a = TrailSubject::Id(id('a'));
    let look_up = |now| {
        for number in 0..1_000 {
            trail.used(&lookup(&a, 0, &format!("web-{number}.service"), 1), now);
        }
        trail.totals()
    };
    assert_eq!(look_up(now).left_out, 400);
    let later = Now { boot: now.boot.after(Duration::from_secs(60)), ..now };
    // With the record of what was left out.
    assert_eq!((look_up(later).recorded, look_up(later).left_out), (1_001, 400));
}

/// Podman's health checks look each secret up again, in a new unit with each start of the container.
#[test]
fn health_checks_of_a_user_are_one_unit_and_keep_the_unit_of_the_last_use() {
    let a = TrailSubject::Id(id('a'));
    let (trail, now) = (Trail::start(|_| None), clock::now());
    let check = |byte: u8| format!("{}-{byte:x}.service", format!("{byte:02x}").repeat(32));
    trail.used(&lookup(&a, 0, "web.service", 1), now);
    for byte in 1..100 {
        trail.used(&lookup(&a, 0, &check(byte), 1), now);
    }
    assert_eq!(trail.totals().recorded, 2);
    assert_eq!(trail.last_uses()[&id('a')].unit.as_deref(), Some("web.service"));
    trail.used(&lookup(&a, 7, &format!("user@7.service/{}", check(1)), 1), now);
    assert_eq!(trail.totals().recorded, 3);
    assert_eq!(trail.last_uses()[&id('a')].uid, 7);
    for unit in ["web.service", "5f-6c.service", &check(1).replace("service", "scope"), "-.service"]
    {
        assert!(!actor(0, unit).is_health_check(), "{unit}");
    }
}

/// A user has 65,536 subordinate uids, and can make each unit.
#[test]
fn lookups_by_many_users_and_units_use_bounded_memory() {
    let (trail, now) = (Trail::start(|_| None), clock::now());
    let a = TrailSubject::Id(id('a'));
    for uid in 0..100_000 {
        trail.used(&lookup(&a, uid, &format!("unit-{uid}.service"), 1), now);
        let refused = Record::refusal(actor(uid, "x.service"), "Lookup", TrailSubject::None);
        trail.record(refused, now);
    }
    let state = trail.state.lock();
    assert_eq!(state.last_uses.len(), 1);
    assert!(state.seen.len() <= 65_536, "{}", state.seen.len());
    assert!(state.budgets.len() <= 1_024, "{}", state.budgets.len());
    assert!(state.totals.left_out > 190_000, "{:?}", state.totals);
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
    trail.report_left_out(Now { boot: start.boot.after(Duration::from_secs(60)), ..start });
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
