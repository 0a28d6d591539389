//! The number of records of each user in a minute.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::clock::BootInstant;

/// The span for which a user's records are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Records of a user in a window: a host's boot looks up hundreds of secrets.
const MAX_RECORDS: u32 = 600;
/// Of these, refusals and failed lookups, which any caller may cause at will.
const MAX_REFUSALS: u32 = 20;
/// The same of all users in a window: a user may have 65,536 subordinate uids.
const MAX_REFUSALS_OF_ALL: u32 = 200;
/// Users that are counted separately; the others share one budget.
const MAX_USERS: usize = 1_024;

/// The budgets of all users.
#[derive(Default)]
pub(super) struct Budgets {
    users: HashMap<Option<u32>, Window>,
    others: Option<Window>,
    refusals: Option<Window>,
}

/// The records of one user since `began`.
#[derive(Clone, Copy)]
struct Window {
    began: BootInstant,
    records: u32,
    refusals: u32,
    left_out: u64,
}

impl Window {
    fn new(began: BootInstant) -> Self {
        Self { began, records: 0, refusals: 0, left_out: 0 }
    }

    fn is_over(&self, now: BootInstant) -> bool {
        self.began.age(now) >= WINDOW
    }
}

impl Budgets {
    /// Whether a record may be written; it is counted if so.
    pub(super) fn allow(&mut self, uid: Option<u32>, is_refusal: bool, now: BootInstant) -> bool {
        let of_all = self.refusals.get_or_insert_with(|| Window::new(now));
        if of_all.is_over(now) {
            *of_all = Window::new(now);
        }
        if is_refusal && of_all.refusals >= MAX_REFUSALS_OF_ALL {
            return false;
        }
        let user = self.window(uid, now);
        if user.records >= MAX_RECORDS || (is_refusal && user.refusals >= MAX_REFUSALS) {
            return false;
        }
        user.records += 1;
        user.refusals += u32::from(is_refusal);
        if let Some(of_all) = &mut self.refusals {
            of_all.refusals += u32::from(is_refusal);
        }
        true
    }

    /// Counts a record that was left out.
    pub(super) fn leave_out(&mut self, uid: Option<u32>, now: BootInstant) {
        self.window(uid, now).left_out += 1;
    }

    /// What a user's last window left out, if it is over.
    pub(super) fn take_left_out_of(&mut self, uid: Option<u32>, now: BootInstant) -> Option<u64> {
        let window = self.users.get_mut(&uid).filter(|window| window.is_over(now))?;
        let left_out = window.left_out;
        *window = Window::new(now);
        (left_out > 0).then_some(left_out)
    }

    /// What the windows that are over left out, by user; users without a running window are forgotten.
    pub(super) fn take_left_out(&mut self, now: BootInstant) -> Vec<(Option<u32>, u64)> {
        let over: Vec<_> = self.users.extract_if(|_, window| window.is_over(now)).collect();
        let over = over.into_iter().map(|(uid, window)| (uid, window.left_out));
        let others = self.others.take_if(|window| window.is_over(now));
        let over = over.chain(others.map(|window| (None, window.left_out)));
        over.filter(|(_, left_out)| *left_out > 0).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    fn window(&mut self, uid: Option<u32>, now: BootInstant) -> &mut Window {
        let is_counted = self.users.len() < MAX_USERS || self.users.contains_key(&uid);
        let window = if is_counted {
            self.users.entry(uid).or_insert_with(|| Window::new(now))
        } else {
            self.others.get_or_insert_with(|| Window::new(now))
        };
        if window.is_over(now) {
            *window = Window { left_out: window.left_out, ..Window::new(now) };
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(
        budgets: &mut Budgets,
        uid: u32,
        is_refusal: bool,
        now: BootInstant,
        tries: u32,
    ) -> u32 {
        let mut allow = || budgets.allow(Some(uid), is_refusal, now);
        (0..tries).map(|_| u32::from(allow())).sum()
    }

    #[test]
    fn user_has_a_number_of_records_and_refusals_a_minute() {
        let (mut budgets, now) = (Budgets::default(), BootInstant::at(WINDOW));
        assert_eq!(allowed(&mut budgets, 7, true, now, 1_000), MAX_REFUSALS);
        assert_eq!(allowed(&mut budgets, 7, false, now, 1_000), MAX_RECORDS - MAX_REFUSALS);
        assert_eq!(allowed(&mut budgets, 8, false, now, 1_000), MAX_RECORDS);
        let later = now.after(WINDOW);
        assert_eq!(allowed(&mut budgets, 7, true, later, 1_000), MAX_REFUSALS);
    }

    #[test]
    fn left_out_records_are_reported_once_their_minute_is_over() {
        let (mut budgets, now) = (Budgets::default(), BootInstant::at(WINDOW));
        budgets.leave_out(Some(7), now);
        budgets.leave_out(Some(7), now);
        assert_eq!(budgets.take_left_out_of(Some(7), now), None);
        assert_eq!(budgets.take_left_out(now), []);
        assert_eq!(budgets.take_left_out_of(Some(7), now.after(WINDOW)), Some(2));
        budgets.leave_out(Some(7), now);
        assert_eq!(budgets.take_left_out(now.after(2 * WINDOW)), [(Some(7), 1)]);
        assert_eq!(budgets.take_left_out(now.after(2 * WINDOW)), []);
        assert!(budgets.users.is_empty());
    }

    #[test]
    fn many_users_share_bounded_memory_and_bounded_refusals() {
        let (mut budgets, now) = (Budgets::default(), BootInstant::at(WINDOW));
        let refusals: u32 = (0..100_000).map(|uid| allowed(&mut budgets, uid, true, now, 1)).sum();
        assert_eq!(refusals, MAX_REFUSALS_OF_ALL);
        let lookups: u32 = (0..100_000).map(|uid| allowed(&mut budgets, uid, false, now, 1)).sum();
        assert!(budgets.users.len() <= MAX_USERS && lookups <= MAX_RECORDS + MAX_USERS as u32);
    }
}
