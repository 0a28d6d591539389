//! Podman's secrets, compared with psid's registrations and with the commands that podman must run for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use psi_common::{Finding, Paths, Scope, SecretId};
use psi_proto::v1::{Registration, RegistrationKind, StatusResponse};

use super::named;
use super::workloads::Workloads;
use crate::client::{Client, Deadline};
use crate::ctl::install;
use crate::ctl::podman::{self, Commands, Secret, Secrets};
use crate::ctl::wording::counted;
use crate::error::CliError;

/// The secrets of podman and psid. Nothing is concluded from a query that failed.
pub(super) struct Inventory {
    pub(super) secrets: Secrets,
    /// `None` if psid does not answer or cannot read its registrations.
    registered: Option<BTreeMap<SecretId, Registration>>,
    /// The podman names of the secrets that were deleted within the last ten minutes.
    restorable: BTreeMap<SecretId, String>,
    failures: Vec<Finding>,
    /// Whether podman listed its secrets.
    pub(super) has_podman: bool,
}

impl Inventory {
    pub(super) fn load(paths: &Paths, status: &Result<StatusResponse, CliError>) -> Self {
        let mut failures = Vec::new();
        let is_readable = |status: &StatusResponse| {
            status.degraded_causes.iter().all(|cause| cause != "registry-unreadable")
        };
        let mut registered = None;
        let mut restorable = BTreeMap::new();
        // The status reports a psid that is down.
        if status.as_ref().is_ok_and(is_readable) {
            let client = Client::new(paths, Deadline::Probe);
            match client.registrations() {
                Ok(all) => {
                    let parsed =
                        all.into_iter().filter_map(|one| Some((one.id.parse().ok()?, one)));
                    registered = Some(parsed.collect());
                }
                Err(failure) => failures.push(Finding::error(failure.to_string(), "").of("psid")),
            }
            let deleted = client.restorable().unwrap_or_default().into_iter();
            restorable = deleted.filter_map(|one| Some((one.id.parse().ok()?, one.name))).collect();
        }
        let secrets = podman::secrets();
        let has_podman = secrets.is_ok();
        let secrets = secrets.unwrap_or_else(|failure| {
            failures.push(Finding::error(failure.to_string(), "").of("podman"));
            Secrets::default()
        });
        Self { secrets, registered, restorable, failures, has_podman }
    }

    /// `replaced`: the secrets that `podman kube play` replaced.
    pub(super) fn findings(
        &self,
        commands: &Commands,
        workloads: &Workloads,
        replaced: &BTreeSet<String>,
    ) -> Vec<Finding> {
        let mut findings = self.failures.clone();
        findings.extend(
            program_missing(commands.program()).map(|it| it.affecting(self.names_of_psi())),
        );
        findings.extend(self.unknown(workloads));
        findings.extend(self.deleted());
        findings.extend(self.unusable());
        findings.extend(self.duplicates());
        findings.extend(self.stale_commands(commands));
        findings.extend(self.plaintext(replaced));
        findings.extend(self.orphans());
        findings
    }

    pub(super) fn of_psi(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().filter(|secret| secret.names_psi())
    }

    fn names_of_psi(&self) -> impl Iterator<Item = &str> {
        self.of_psi().map(|secret| secret.name.as_str())
    }

    /// Whether podman or psid has any secret.
    pub(super) fn is_used(&self) -> bool {
        self.of_psi().next().is_some()
            || self.registered.as_ref().is_some_and(|all| !all.is_empty())
    }

    /// Whether a secret of this name was deleted within the last ten minutes.
    pub(super) fn was_deleted(&self, name: &str) -> bool {
        self.restorable.values().any(|deleted| deleted == name)
    }

    /// The podman names of ids; the id itself if podman has none.
    pub(super) fn names(&self, ids: &[String]) -> Vec<String> {
        ids.iter().map(|id| self.name(id)).collect()
    }

    /// Podman's name of an id; otherwise the one that psid remembers, with the id.
    fn name(&self, id: &str) -> String {
        if let Some(secret) = self.secrets.iter().find(|secret| secret.id.as_str() == id) {
            return secret.name.clone();
        }
        let mut registered = self.registered.iter().flat_map(BTreeMap::values);
        match registered.find(|one| one.id == id && !one.name.is_empty()) {
            Some(one) => format!("{} ({id})", one.name),
            None => id.to_owned(),
        }
    }

    /// The name of the secret that podman takes for this text: a name, an id, or the beginning of one id.
    pub(super) fn name_of(&self, text: String) -> String {
        if self.secrets.has(&text) {
            return text;
        }
        let mut with = self.secrets.iter().filter(|secret| secret.id.as_str().starts_with(&text));
        match (with.next(), with.next()) {
            (Some(secret), None) => secret.name.clone(),
            _ => text,
        }
    }

    /// The podman stores that had a secret of this name when psid last learnt of it.
    pub(super) fn stores_with(&self, name: &str) -> Vec<&str> {
        let registered = self.registered.iter().flat_map(BTreeMap::values);
        let named = registered.filter(|one| one.name == name && !one.store.is_empty());
        named.map(|one| one.store.as_str()).collect()
    }

    /// The literals that only lack an open key.
    pub(super) fn locked(&self) -> Vec<String> {
        let registered = self.registered.iter().flat_map(BTreeMap::values);
        registered.filter(|one| one.needs_key).map(|one| self.name(&one.id)).collect()
    }

    /// Secrets of podman that psid has no registration of (version 1, pull request 29).
    fn unknown(&self, workloads: &Workloads) -> Vec<Finding> {
        let Some(registered) = &self.registered else { return Vec::new() };
        let unknown = self
            .of_psi()
            .filter(|secret| !registered.contains_key(&secret.id))
            .filter(|secret| !self.restorable.contains_key(&secret.id));
        let (planned, others): (Vec<&str>, Vec<&str>) =
            unknown.map(|secret| secret.name.as_str()).partition(|name| workloads.has(name));
        let finding = |names: Vec<&str>, remedy: &str| {
            let what = format!(
                "psid has no registration of {} of podman, so that no container starts with them: {}",
                counted(names.len(), "secret"),
                named(names.iter().copied())
            );
            (!names.is_empty())
                .then(|| Finding::error(what, remedy).of("secret-unknown").affecting(names))
        };
        let create = match others.first() {
            Some(name) => format!(
                "restore them from a backup of the state directory, or create each of them: `podman secret create \
                 --replace {name} -`"
            ),
            None => String::new(),
        };
        let planned = finding(planned, "`psictl setup` registers them again");
        planned.into_iter().chain(finding(others, &create)).collect()
    }

    /// Secrets that podman has and that were deleted in psid a short time ago.
    fn deleted(&self) -> Option<Finding> {
        let deleted: Vec<&Secret> =
            self.of_psi().filter(|secret| self.restorable.contains_key(&secret.id)).collect();
        (!deleted.is_empty()).then(|| {
            let names: Vec<&str> = deleted.iter().map(|secret| secret.name.as_str()).collect();
            let what = format!(
                "podman still has {} deleted in psid within the last ten minutes: {}",
                counted(deleted.len(), "secret"),
                named(names.iter().copied())
            );
            let commands = deleted.iter().take(super::MAX_NAMES);
            let commands: Vec<String> =
                commands.map(|secret| format!("`psictl restore {}`", secret.id)).collect();
            Finding::error(what, commands.join(", ")).of("secret-deleted").affecting(names)
        })
    }

    /// One finding for each reason that registrations are unusable; the reason has its own remedy. Literals that only
    /// lack an open key are part of the key's finding.
    fn unusable(&self) -> Vec<Finding> {
        let registered = self.registered.iter().flat_map(BTreeMap::values);
        let unusable =
            registered.filter(|one| one.kind() == RegistrationKind::Unusable && !one.needs_key);
        let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for one in unusable {
            by_reason.entry(reason_of(one)).or_default().push(&one.id);
        }
        let all = by_reason.into_iter().map(|(why, ids)| {
            let names: Vec<String> = ids.iter().map(|id| self.name(id)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let what = format!("{}: {why}", counted(ids.len(), "secret"));
            Finding::error(what, "").of("secret-unusable").affecting(names)
        });
        all.collect()
    }

    /// Secrets with the same name: podman uses one of them, and another one after a removal.
    fn duplicates(&self) -> Vec<Finding> {
        let of_psi = |same: &&[Secret]| same.iter().any(Secret::names_psi);
        let all = self.secrets.duplicates().filter(of_psi).map(|same| {
            let names = same.iter().take(1).map(|secret| secret.name.as_str());
            Finding::warning(podman::duplicate_names(same).to_string(), "")
                .of("secret-doubled")
                .affecting(names)
        });
        all.collect()
    }

    /// Commands that are out of date: podman copied them into a secret when it created it.
    fn stale_commands(&self, commands: &Commands) -> Vec<Finding> {
        let mut findings = Vec::new();
        let stale: Vec<&Secret> =
            self.of_psi().filter(|secret| !commands.matches(&secret.options)).collect();
        let (python, moved): (Vec<&Secret>, Vec<&Secret>) =
            stale.into_iter().partition(|secret| is_of_python_psi(secret));
        if !python.is_empty() {
            let shows = |secret: &&&Secret| secret.options.values().any(|it| it.contains("Bearer"));
            let token = match python.iter().filter(shows).count() {
                0 => String::new(),
                count => format!(
                    "; {count} of them show its bearer token to every user who can list processes"
                ),
            };
            findings.push(Finding::error(
                format!(
                    "podman runs commands of psi version 1 for {}, which work only while that runs{token}: {}",
                    counted(python.len(), "secret"),
                    named(python.iter().map(|secret| secret.name.as_str()))
                ),
                "`psictl migrate --from psi` corrects them in place",
            ).of("old-commands").affecting(python.iter().map(|secret| secret.name.as_str())));
        }
        let gone = moved
            .iter()
            .filter(|secret| program_of(secret).is_some_and(|it| !is_program(Path::new(it))));
        let gone = gone.count();
        if !moved.is_empty() {
            let what = format!(
                "podman runs another psi-driver than {1} for {0}: {2}",
                counted(moved.len(), "secret"),
                commands.program().display(),
                named(moved.iter().map(|secret| secret.name.as_str()))
            );
            let remedy = "`psictl migrate --from psi` corrects them in place";
            let finding = if gone > 0 {
                Finding::error(format!("{what}; for {gone} of them it does not exist"), remedy)
            } else {
                Finding::warning(what, remedy)
            };
            let names = moved.iter().map(|secret| secret.name.as_str());
            findings.push(finding.of("old-commands").affecting(names));
        }
        findings
    }

    fn plaintext(&self, replaced: &BTreeSet<String>) -> Option<Finding> {
        let is_left =
            |secret: &&Secret| secret.driver == "file" && !replaced.contains(&secret.name);
        let of_files = self.secrets.iter().filter(is_left);
        let names: Vec<&str> = of_files.map(|secret| secret.name.as_str()).collect();
        (!names.is_empty()).then(|| {
            Finding::warning(
                format!(
                    "podman's file driver keeps {} in plaintext: {}",
                    counted(names.len(), "secret"),
                    named(names.iter().copied())
                ),
                "`psictl migrate --from file` moves them to psid",
            )
            .of("file-driver")
            .affecting(names)
        })
    }

    /// The secrets by which an install that was interrupted tested psid and podman.
    pub(super) fn left_by_install(&self) -> Option<Finding> {
        let trials = self.registered.iter().flat_map(BTreeMap::keys);
        let trials = trials.map(SecretId::as_str).filter(|id| install::is_trial(id));
        let probes = self.secrets.iter().map(|secret| secret.name.as_str());
        let left: Vec<&str> = trials.chain(probes.filter(|name| podman::is_probe(name))).collect();
        (!left.is_empty()).then(|| {
            let what = format!(
                "a `psictl install` that was interrupted left {}: {}",
                counted(left.len(), "secret"),
                named(left.iter().copied())
            );
            Finding::warning(what, "`psictl install` removes them").of("install-interrupted")
        })
    }

    /// Registrations that this podman does not have. Other stores may have them, which gc checks. If podman has none of
    /// them, it probably uses another store or lost its record. Those of users are in their podmans' stores.
    fn orphans(&self) -> Option<Finding> {
        let registered = self.registered.as_ref().filter(|_| self.has_podman)?;
        let known: BTreeSet<SecretId> = podman::ids(self.secrets.iter());
        let is_system = Scope::of_this_process() == Scope::System;
        let own = registered.iter().filter(|(_, one)| !(is_system && one.owner.is_some()));
        let own = own.map(|(id, _)| *id).filter(|id| !install::is_trial(id.as_str()));
        let registered: Vec<SecretId> = own.collect();
        let orphans = registered.iter().filter(|id| !known.contains(id)).count();
        if orphans == 0 {
            return None;
        }
        if orphans == registered.len() {
            let what = format!(
                "podman has none of the {} of psid: it uses another store, or its record of secrets was \
                 lost",
                counted(orphans, "secret")
            );
            let remedy = "compare `podman info` with CONTAINERS_STORAGE_CONF; `psictl setup` creates the secrets of \
                          workloads again";
            return Some(Finding::warning(what, remedy).of("podman-empty"));
        }
        let what =
            format!("psid has {} that this podman does not have", counted(orphans, "registration"));
        let remedy = "`psictl gc --dry-run` lists those that no podman has";
        Some(Finding::note(what, remedy).of("orphan"))
    }
}

/// The reason that a registration is unusable, without the path of its file, so that equal reasons are equal.
fn reason_of(one: &Registration) -> String {
    let after =
        one.description.split_once(&one.id).map_or(one.description.as_str(), |(_, after)| after);
    let reason = after.trim_start_matches([':', ' ']);
    if reason.is_empty() { one.description.clone() } else { reason.to_owned() }
}

/// Whether the commands are version 1's: curl or a container. This version's contain psi-driver.
fn is_of_python_psi(secret: &Secret) -> bool {
    secret.options.get("lookup").is_some_and(|lookup| !lookup.contains("psi-driver"))
}

fn program_of(secret: &Secret) -> Option<&str> {
    secret.options.get("lookup")?.split_whitespace().find(|word| word.starts_with('/'))
}

fn program_missing(program: &Path) -> Option<Finding> {
    (!is_program(program)).then(|| {
        Finding::error(
            format!(
                "{} is not an executable file, but podman runs it for each secret",
                program.display()
            ),
            "install psi-driver there, or set its path with `psictl install --program`",
        )
        .of("psi-driver-missing")
    })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
