//! `psictl secrets`: every registration, where its value comes from, how old it is, and its last use. psid never sends
//! a value for it.

mod report;

use std::cmp::Reverse;
use std::collections::HashMap;

use psi_common::{Exit, Paths, Scope, passwd};
use psi_proto::v1::{Registration, RegistrationKind};

use crate::client::{Client, Deadline};
use crate::ctl::args::{SecretKind, SecretsOptions, SortBy};
use crate::ctl::{changes, names, podman, status};
use crate::error::CliError;
use crate::stdio;

pub(crate) fn run(paths: &Paths, options: &SecretsOptions) -> Result<(), CliError> {
    let owner = options.owner.as_deref().map(uid_of).transpose()?;
    // psid learns podman's names from psictl only.
    if let (Ok(secrets), Ok(about)) = (podman::secrets(), podman::about()) {
        names::report_secrets(paths, &secrets, &about.graph_root);
    }
    let all = Client::new(paths, Deadline::Admin).registrations()?;
    if let Some(missing) = options.names.iter().find(|name| !all.iter().any(|one| is(one, name))) {
        let what = format!("no registered secret has the name or id {missing}");
        return Err(CliError::new(Exit::NoSuchSecret, what, "see `psictl secrets`"));
    }
    let mut shown: Vec<Registration> = all;
    shown.retain(|one| is_wanted(one, options, owner));
    sort(&mut shown, options.sort);
    let users = Users::default();
    let changes = changes::look(paths, Deadline::Probe);
    let text = if options.json {
        report::as_json(&shown, &users, &changes)
    } else {
        report::as_text(&shown, &users, status::now())
            + &report::outdated(&shown, &changes, status::now())
    };
    stdio::write_text(&text)
}

fn uid_of(user: &str) -> Result<u32, CliError> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    let users = passwd::users().unwrap_or_default();
    let found = users.iter().find(|one| one.name == user);
    found.map(|one| one.uid).ok_or_else(|| {
        let what = format!("/etc/passwd has no user {user}");
        CliError::new(Exit::Usage, what, "give a uid, or a user of this host")
    })
}

fn is(one: &Registration, name: &str) -> bool {
    one.name == name || one.id == name
}

fn is_wanted(one: &Registration, options: &SecretsOptions, owner: Option<u32>) -> bool {
    let is_of = |workload: &String| one.workloads.contains(workload);
    (options.names.is_empty() || options.names.iter().any(|name| is(one, name)))
        && options.workload.as_ref().is_none_or(is_of)
        && options.kind.is_none_or(|kind| kind == kind_of(one))
        && owner.is_none_or(|owner| owner == owner_of(one))
        && !(options.unused && one.last_use.is_some())
}

/// One without an owner is root's; on a user's own psid, the user's.
fn owner_of(one: &Registration) -> u32 {
    let default = || match Scope::of_this_process() {
        Scope::System => 0,
        Scope::User { uid } => uid,
    };
    one.owner.unwrap_or_else(default)
}

fn kind_of(one: &Registration) -> SecretKind {
    match one.kind() {
        RegistrationKind::Reference => SecretKind::Reference,
        RegistrationKind::Literal => SecretKind::Literal,
        RegistrationKind::Unusable | RegistrationKind::Unspecified => SecretKind::Unusable,
    }
}

/// Sorts by a column, and equal ones by name and id; an unknown time comes last.
fn sort(all: &mut [Registration], by: SortBy) {
    all.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let latest = |ms: Option<u64>| (ms.is_none(), Reverse(ms));
    match by {
        SortBy::Name => {
            // One without a name is shown by its id, after the others.
            all.sort_by_key(|one| one.name.is_empty());
        }
        SortBy::Workload => all.sort_by(|a, b| a.workloads.cmp(&b.workloads)),
        SortBy::Owner => all.sort_by_key(owner_of),
        SortBy::Age => all.sort_by_key(|one| (one.fetched_at_ms.is_none(), one.fetched_at_ms)),
        SortBy::Changed => all.sort_by_key(|one| latest(one.changed_at_ms)),
        SortBy::Used => {
            all.sort_by_key(|one| latest(one.last_use.as_ref().map(|last| last.at_ms)));
        }
    }
}

/// The names of users, each read once.
struct Users(HashMap<u32, String>);

impl Default for Users {
    fn default() -> Self {
        let users = passwd::users().unwrap_or_default().into_iter();
        let mut names = HashMap::new();
        for user in users {
            // As getpwuid(3): the first line of a uid.
            names.entry(user.uid).or_insert(user.name);
        }
        Self(names)
    }
}

impl Users {
    fn name_of(&self, uid: u32) -> Option<&str> {
        self.0.get(&uid).map(String::as_str)
    }

    /// The name, or else the uid.
    fn shown(&self, uid: u32) -> String {
        self.name_of(uid).map_or_else(|| format!("uid {uid}"), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use psi_proto::v1::LastUse;

    fn one(name: &str, workload: &str, fetched_at_ms: u64, used_ms: u64) -> Registration {
        Registration {
            id: format!("{name:0>25}"),
            name: name.into(),
            kind: RegistrationKind::Reference.into(),
            workloads: vec![workload.into()],
            fetched_at_ms: (fetched_at_ms > 0).then_some(fetched_at_ms),
            changed_at_ms: (fetched_at_ms > 0).then_some(fetched_at_ms),
            last_use: (used_ms > 0).then(|| LastUse { at_ms: used_ms, ..LastUse::default() }),
            ..Registration::default()
        }
    }

    fn options(change: impl Fn(&mut SecretsOptions)) -> SecretsOptions {
        let mut options = SecretsOptions {
            names: Vec::new(),
            workload: None,
            kind: None,
            owner: None,
            unused: false,
            sort: SortBy::Name,
            json: false,
        };
        change(&mut options);
        options
    }

    fn all() -> Vec<Registration> {
        vec![
            one("c", "web", 3, 0),
            one("", "db", 0, 0),
            one("a", "app", 2, 9),
            one("b", "db", 1, 8),
        ]
    }

    #[test]
    fn each_column_sorts_and_unknown_times_come_last() {
        for (by, order) in [
            (SortBy::Name, "a b c "),
            (SortBy::Workload, "a  b c"),
            (SortBy::Age, "b a c "),
            (SortBy::Changed, "c a b "),
            (SortBy::Used, "a b  c"),
        ] {
            let mut all = all();
            sort(&mut all, by);
            let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names.join(" "), order, "{by:?}");
        }
    }

    #[test]
    fn filters_apply_together() {
        let wanted = |options: &SecretsOptions, owner| {
            let all = all();
            let wanted = all.iter().filter(|one| is_wanted(one, options, owner));
            wanted.map(|one| one.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(wanted(&options(|_| {}), None), "c  a b");
        assert_eq!(wanted(&options(|it| it.unused = true), None), "c ");
        assert_eq!(wanted(&options(|it| it.workload = Some("db".into())), None), " b");
        assert_eq!(wanted(&options(|it| it.names = vec!["b".into(), "c".into()]), None), "c b");
        let both = options(|it| (it.unused, it.workload) = (true, Some("db".into())));
        assert_eq!(wanted(&both, None), "");
        assert_eq!(wanted(&options(|it| it.kind = Some(SecretKind::Literal)), None), "");
        assert_eq!(wanted(&options(|_| {}), Some(1)), "");
    }

    #[test]
    fn user_is_a_name_or_a_uid() {
        assert_eq!(uid_of("root").unwrap(), 0);
        assert_eq!(uid_of("12345").unwrap(), 12_345);
        assert_eq!(uid_of("nobody of this host").unwrap_err().exit(), Exit::Usage);
    }
}
