//! The trail: a structured record in the journal for each first use of a secret by a user and unit, and for each
//! refusal and change. No record has a value.
//!
//! A call hands its record to a thread, and waits neither for the journal nor for the secret's name. Each user has a
//! number of records a minute; those beyond it are counted, and the count is recorded.

mod budget;
mod last_uses;
mod record;
mod seen;

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use psi_common::SecretId;

use crate::model::clock::Now;
use budget::Budgets;
use last_uses::LastUses;
use seen::Seen;

pub(crate) use last_uses::LastUse;
pub(crate) use record::{Actor, Event, Record, TrailSubject, Use};

/// Records that wait for the journal; more are left out.
const MAX_WAITING: usize = 4_096;
/// How long the end of psid waits for the journal.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The trail of one psid.
pub struct Trail {
    state: Mutex<State>,
    /// Closed when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

struct State {
    seen: Seen,
    budgets: Budgets,
    last_uses: LastUses,
    totals: TrailTotals,
    /// None once the trail is closed.
    queue: Option<SyncSender<Record>>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrailTotals {
    /// Records that were written.
    pub(crate) recorded: u64,
    /// Records that were left out.
    pub(crate) left_out: u64,
    /// Refused calls, recorded or left out.
    pub(crate) refusals: u64,
}

impl Trail {
    /// A trail; `name_of` gives the name of an id, or what it refers to. A thread calls it.
    pub(crate) fn start(name_of: impl Fn(SecretId) -> Option<String> + Send + 'static) -> Self {
        let (queue, records) = sync_channel(MAX_WAITING);
        let (running, ended) = channel();
        let writer = std::thread::Builder::new().name("trail".into()).spawn(move || {
            // It is closed also if this panics.
            let _running: std::sync::mpsc::Sender<()> = running;
            write_all(&records, name_of);
        });
        if let Err(error) = &writer {
            tracing::error!(
                "the trail has no thread, so nothing is recorded: {error}; restart psid"
            );
        }
        let state = State {
            seen: Seen::default(),
            budgets: Budgets::default(),
            last_uses: LastUses::default(),
            totals: TrailTotals::default(),
            queue: writer.is_ok().then_some(queue),
        };
        Self { state: Mutex::new(state), ended: Mutex::new(ended) }
    }

    /// Notes a lookup, and records it if it is the first one of this value by this user and unit.
    pub(crate) fn used(&self, used: &Use<'_>, now: Now) {
        let mut state = self.state.lock();
        if let (true, TrailSubject::Id(id), Some(uid)) =
            (used.is_served(), &used.secret, used.actor.uid)
        {
            state.note_last_use(*id, uid, used, now);
        }
        if let Some(lookup) = state.seen.first(used)
            && !state.record(used.record(), now)
        {
            state.seen.forget(lookup);
        }
    }

    /// Records an event.
    pub(crate) fn record(&self, record: Record, now: Now) {
        let mut state = self.state.lock();
        if let (Event::Delete, TrailSubject::Id(id), "ok") =
            (record.event, &record.subject, record.outcome)
        {
            state.last_uses.forget(*id);
        }
        state.totals.refusals += u64::from(record.event == Event::Refusal);
        state.record(record, now);
    }

    /// The last lookup of each id since the start.
    pub(crate) fn last_uses(&self) -> HashMap<SecretId, LastUse> {
        self.state.lock().last_uses.newest()
    }

    /// The last lookups of these ids by each user and unit since the start.
    pub(crate) fn uses_of(&self, ids: &[SecretId]) -> Vec<LastUse> {
        let state = self.state.lock();
        ids.iter().flat_map(|id| state.last_uses.of(*id)).cloned().collect()
    }

    /// Counts since the start.
    pub(crate) fn totals(&self) -> TrailTotals {
        self.state.lock().totals
    }

    /// Records what was left out in the minutes that are over.
    pub(crate) fn report_left_out(&self, now: Now) {
        let mut state = self.state.lock();
        for (uid, count) in state.budgets.take_left_out(now.boot) {
            state.send(Record::left_out(uid, count));
        }
    }

    /// Writes what waits, and ends the thread.
    pub(crate) fn close(&self) {
        self.state.lock().queue = None;
        // Nothing is ever sent; a journal that does not read must not hold up the end of psid.
        let _ = self.ended.lock().recv_timeout(CLOSE_TIMEOUT);
    }
}

impl State {
    fn note_last_use(&mut self, id: SecretId, uid: u32, used: &Use<'_>, now: Now) {
        let unit = used.actor.unit.clone();
        let new = LastUse { at: now.wall, boot: now.boot, uid, unit };
        match used.actor.is_health_check() {
            true => self.last_uses.note_health_check(id, new),
            false => self.last_uses.note(id, new),
        }
    }

    /// Whether the record is written, and not left out.
    fn record(&mut self, record: Record, now: Now) -> bool {
        let (uid, is_refusal, now) = (record.actor.uid, record.is_refusal(), now.boot);
        if let Some(count) = self.budgets.take_left_out_of(uid, now) {
            self.send(Record::left_out(uid, count));
        }
        let is_sent = self.budgets.allow(uid, is_refusal, now) && self.send(record);
        if !is_sent {
            self.budgets.leave_out(uid, now);
            self.totals.left_out += 1;
        }
        is_sent
    }

    fn send(&mut self, record: Record) -> bool {
        let is_sent = self.queue.as_ref().is_some_and(|queue| queue.try_send(record).is_ok());
        self.totals.recorded += u64::from(is_sent);
        is_sent
    }
}

fn write_all(records: &Receiver<Record>, name_of: impl Fn(SecretId) -> Option<String>) {
    while let Ok(record) = records.recv() {
        let name = match &record.subject {
            TrailSubject::Id(id) => name_of(*id),
            TrailSubject::Name(name) => Some(name.clone()),
            TrailSubject::None => None,
        };
        record.write(name.as_deref());
    }
}

#[cfg(test)]
mod tests;
