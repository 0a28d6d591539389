//! The uids of the users that workloads name. A workload whose user is unknown is root's alone, and psid is degraded
//! until a later query, one each minute, finds the user.

use std::collections::{BTreeMap, BTreeSet};

use super::{DegradedReason, Runtime};
use crate::provider::upstream::{Workload, WorkloadUser};
use crate::sys::users::{self, UserAnswer};

/// The workloads of a config, by name.
type Workloads = BTreeMap<String, Workload>;

impl Runtime {
    /// Queries the users that are not known, in at most two seconds.
    pub(super) async fn find_users(&self) {
        let upstreams = self.service.upstreams();
        let unknown = find_users(&upstreams.workloads, &BTreeMap::new()).await;
        self.report_unknown_users(&unknown);
    }

    /// Degrades psid for the users that are not known.
    pub(super) fn report_unknown_users(&self, unknown: &[String]) {
        match unknown.is_empty() {
            true => self.recover(DegradedReason::User),
            false => self.degrade(DegradedReason::User, &unknown.join("; ")),
        }
    }
}

/// Finds the uids of the users that workloads name, in at most two seconds. Returns a sentence for each workload whose
/// user stays unknown. Where the name service does not answer, a user has the uid that it had in `former`.
pub(crate) async fn find_users(workloads: &Workloads, former: &Workloads) -> Vec<String> {
    let unknown = |workload: &Workload| {
        workload.user.as_ref().and_then(WorkloadUser::unknown).map(str::to_owned)
    };
    let names: BTreeSet<String> = workloads.values().filter_map(unknown).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let answers = users::look_up(names.into_iter().collect()).await;
    let mut sentences = Vec::new();
    for (workload, Workload { user, .. }) in workloads {
        let Some((user, name)) = user.as_ref().and_then(|user| Some((user, user.unknown()?)))
        else {
            continue;
        };
        let answer = answers.iter().find(|(asked, _)| asked == name).map(|(_, answer)| answer);
        let why = match answer {
            Some(UserAnswer::Uid(uid)) => {
                user.set_uid(*uid);
                continue;
            }
            Some(UserAnswer::NoSuchUser) => "there is no such user",
            Some(UserAnswer::NoAnswer(why)) => why,
            None => "the name service does not answer",
        };
        let before = former.values().filter_map(|workload| workload.user.as_ref());
        let before = before.filter(|before| *before == user).find_map(WorkloadUser::uid);
        match before.filter(|_| answer != Some(&UserAnswer::NoSuchUser)) {
            Some(uid) => user.set_uid(uid),
            None => sentences.push(format!(
                "user = \"{name}\" of workload {workload} is unknown: {why}, and root alone may use the workload; \
                 psid looks again each minute: see `getent passwd {name}`, or correct the config"
            )),
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::principal::Principal;
    use crate::provider::upstream::Upstreams;

    fn of_user(user: WorkloadUser) -> Upstreams {
        let workload =
            Workload { provider: "infisical".into(), user: Some(user), ..Workload::default() };
        let workloads = BTreeMap::from([("app".to_owned(), workload)]);
        Upstreams { workloads, ..Upstreams::default() }
    }

    #[tokio::test]
    async fn unknown_user_makes_the_workload_roots_alone() {
        let name = "nobody-of-this-name";
        let upstreams = of_user(WorkloadUser::named(name.into()));
        let former = of_user(WorkloadUser::named(name.into()));
        former.workloads["app"].user.as_ref().unwrap().set_uid(1_000);
        let why = find_users(&upstreams.workloads, &former.workloads).await.join("");
        assert!(
            why.contains("there is no such user, and root alone may use the workload"),
            "{why}"
        );
        assert_eq!(upstreams.workloads_of(Principal::User(1_000)).count(), 0);
        assert_eq!(upstreams.workloads_of(Principal::Admin).count(), 1);
    }

    #[tokio::test]
    async fn names_and_uids_are_known() {
        let upstreams = of_user(WorkloadUser::named("root".into()));
        assert_eq!(find_users(&upstreams.workloads, &BTreeMap::new()).await, [""; 0]);
        assert_eq!(upstreams.workloads_of(Principal::User(0)).count(), 1);
        let upstreams = of_user(WorkloadUser::Uid(4_000_000));
        assert_eq!(find_users(&upstreams.workloads, &BTreeMap::new()).await, [""; 0]);
        assert_eq!(upstreams.workloads_of(Principal::User(4_000_000)).count(), 1);
    }
}
