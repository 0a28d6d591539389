//! The secrets that a workload no longer lists, and whether they may be removed.

use std::collections::{BTreeMap, BTreeSet};

use psi_proto::v1::{PlannedWorkload, RegistrationKind};

use super::{ActualState, DropIn};
use crate::ctl::podman::Secret;

/// The removals of one workload that need no confirmation; more than half of a directory always needs one.
const MAX_REMOVALS: usize = 50;
/// psid truncates a member of a reference to this number of characters.
const MAX_MEMBER_CHARS: usize = 60;

/// A secret that its workload no longer lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl::setup) struct UnlistedSecret {
    pub(in crate::ctl::setup) name: String,
    /// Whether podman has it; otherwise only the drop-in does.
    pub(in crate::ctl::setup) in_podman: bool,
}

impl ActualState {
    /// References with this workload's prefix that it no longer lists, and names that only its drop-in has.
    pub(super) fn unlisted_of(
        &self,
        workload: &PlannedWorkload,
        drop_in: &DropIn,
    ) -> Vec<UnlistedSecret> {
        let listed: BTreeSet<&str> = workload.secrets.iter().map(|s| s.name.as_str()).collect();
        let owned = |name: &str| self.owner(name) == Some(&workload.name);
        let wanted = workload.kube.as_ref().map(|document| document.name.as_str());
        let in_podman = self.secrets.iter().filter(|secret| {
            (owned(&secret.name) || self.is_document_of(secret, &workload.name))
                && !listed.contains(secret.name.as_str())
                && wanted != Some(secret.name.as_str())
                && self.is_created_by_setup(secret)
                && self.secrets.only(&secret.name).is_some()
        });
        let mut gone: BTreeMap<String, bool> =
            in_podman.map(|secret| (secret.name.clone(), true)).collect();
        for name in drop_in.lines().into_keys().filter(|name| !listed.contains(name.as_str())) {
            let in_podman = self.secrets.has(&name);
            gone.entry(name).or_insert(in_podman);
        }
        gone.into_iter().map(|(name, in_podman)| UnlistedSecret { name, in_podman }).collect()
    }

    /// The reason that removals need a confirmation: a directory that lost most of its secrets may have been emptied
    /// by mistake, or be hidden by a role. A secret whose value psid still has was not lost: the config dropped it.
    pub(super) fn doubt(
        &self,
        workload: &PlannedWorkload,
        gone: &[UnlistedSecret],
    ) -> Option<String> {
        let gone: BTreeSet<&str> =
            gone.iter().filter(|one| one.in_podman).map(|one| one.name.as_str()).collect();
        if self.accept_removals || gone.is_empty() {
            return None;
        }
        let mut directories: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut all_lost = 0;
        let owned = self.secrets.iter().filter(|secret| {
            self.owner(&secret.name) == Some(&workload.name) && self.is_created_by_setup(secret)
        });
        for secret in owned {
            let registration = self.registered.get(&secret.id);
            let has_value = registration.is_some_and(|it| it.fetched_at_ms.is_some());
            let is_lost = gone.contains(secret.name.as_str()) && !has_value;
            let about = registration.map_or("", |it| it.description.as_str());
            let (lost, all) = directories.entry(directory_of(about)).or_default();
            *lost += usize::from(is_lost);
            *all += 1;
            all_lost += usize::from(is_lost);
        }
        if all_lost > MAX_REMOVALS {
            return Some(format!("{all_lost} secrets are gone at once"));
        }
        let emptied = directories.iter().find(|(_, (lost, all))| lost * 2 > *all);
        emptied.map(|(directory, (lost, all))| {
            format!("{lost} of the {all} secrets of {directory} are gone at once")
        })
    }

    /// Whether a secret holds all of a workload.
    pub(super) fn is_document_of(&self, secret: &Secret, workload: &str) -> bool {
        let registration = self.registered.get(&secret.id);
        let described = registration.and_then(|it| it.description.strip_prefix("psi workload="));
        described.is_some_and(|name| workload.chars().take(MAX_MEMBER_CHARS).eq(name.chars()))
    }

    /// Whether setup may have created it: a literal was created by hand.
    pub(super) fn is_created_by_setup(&self, secret: &Secret) -> bool {
        secret.driver == "shell"
            && match self.registered.get(&secret.id) {
                Some(registration) => registration.kind() == RegistrationKind::Reference,
                // A psid that reports no registration at all may be unable to read them.
                None => secret.names_psi() && !self.registered.is_empty(),
            }
    }
}

/// The directory of a described reference: all of it but the key. psid sorts the members by name.
fn directory_of(description: &str) -> String {
    let parts = description
        .split_once(" key=")
        .and_then(|(before, after)| Some((before, after.rsplit_once(" path=")?.1)));
    parts.map_or_else(|| description.to_owned(), |(before, path)| format!("{before} path={path}"))
}
