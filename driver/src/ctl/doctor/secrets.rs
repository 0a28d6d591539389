//! Podman's secrets, against what psid has registered and what podman is to run for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use psi_common::{Finding, Paths, SecretId};
use psi_proto::v1::{Registration, RegistrationKind, StatusResponse};

use super::{counted, named};
use crate::client::{Client, Deadline};
use crate::ctl::podman::{self, Commands, Secret, Secrets};
use crate::error::CliError;

/// What podman and psid know. A look that failed is none: nothing is concluded from it.
pub(super) struct Seen {
    pub(super) secrets: Secrets,
    /// None: psid does not answer, or cannot read what is registered.
    registered: Option<BTreeMap<SecretId, Registration>>,
    /// Those that were deleted within the last ten minutes.
    restorable: BTreeSet<SecretId>,
    failures: Vec<Finding>,
    /// Whether podman told its secrets.
    pub(super) sees_podman: bool,
}

impl Seen {
    pub(super) fn look(paths: &Paths, status: &Result<StatusResponse, CliError>) -> Self {
        let mut failures = Vec::new();
        let is_readable = |status: &StatusResponse| {
            status.degraded_causes.iter().all(|cause| cause != "registry-unreadable")
        };
        let mut registered = None;
        let mut restorable = BTreeSet::new();
        // A psid that is down is told of by its status.
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
            let ids = client.restorable().unwrap_or_default();
            restorable = ids.iter().filter_map(|one| one.id.parse().ok()).collect();
        }
        let secrets = podman::secrets();
        let sees_podman = secrets.is_ok();
        let secrets = secrets.unwrap_or_else(|failure| {
            failures.push(Finding::error(failure.to_string(), "").of("podman"));
            Secrets::default()
        });
        Self { secrets, registered, restorable, failures, sees_podman }
    }

    pub(super) fn findings(&self, commands: &Commands) -> Vec<Finding> {
        let mut findings = self.failures.clone();
        findings.extend(not_there(commands.program()).map(|it| it.affecting(self.names_of_psi())));
        findings.extend(self.unknown());
        findings.extend(self.deleted());
        findings.extend(self.unusable());
        findings.extend(self.doubled());
        findings.extend(self.frozen(commands));
        findings.extend(self.in_clear());
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

    /// The podman names of some ids; an id where podman has none.
    pub(super) fn names(&self, ids: &[String]) -> Vec<String> {
        ids.iter().map(|id| self.name(id)).collect()
    }

    fn name(&self, id: &str) -> String {
        let secret = self.secrets.iter().find(|secret| secret.id.as_str() == id);
        secret.map_or_else(|| id.to_owned(), |secret| secret.name.clone())
    }

    /// The literals that lack nothing but an open key.
    pub(super) fn closed(&self) -> Vec<String> {
        let registered = self.registered.iter().flat_map(BTreeMap::values);
        registered.filter(|one| one.needs_key).map(|one| self.name(&one.id)).collect()
    }

    /// PR #29 of the Python PSI: what podman asks for by its id must be known by its id.
    fn unknown(&self) -> Option<Finding> {
        let registered = self.registered.as_ref()?;
        let unknown: Vec<&str> = self
            .of_psi()
            .filter(|secret| !registered.contains_key(&secret.id))
            .filter(|secret| !self.restorable.contains(&secret.id))
            .map(|secret| secret.name.as_str())
            .collect();
        (!unknown.is_empty()).then(|| {
            let what = format!(
                "psid does not know {} of podman's, and no container starts with them: {}",
                counted(unknown.len(), "secret"),
                named(unknown.iter().copied())
            );
            let remedy = "`psictl setup` registers a workload's again; the state directory of a backup has the \
                          others, else `podman secret create --replace`";
            Finding::error(what, remedy).of("secret-unknown").affecting(unknown)
        })
    }

    /// Podman has them still, and psid has them no more, since a moment ago.
    fn deleted(&self) -> Option<Finding> {
        let deleted: Vec<&Secret> =
            self.of_psi().filter(|secret| self.restorable.contains(&secret.id)).collect();
        (!deleted.is_empty()).then(|| {
            let names: Vec<&str> = deleted.iter().map(|secret| secret.name.as_str()).collect();
            let what = format!(
                "{} of podman's was deleted at psid within the last ten minutes: {}",
                counted(deleted.len(), "secret"),
                named(names.iter().copied())
            );
            let commands = deleted.iter().take(super::NAMED);
            let commands: Vec<String> =
                commands.map(|secret| format!("`psictl restore {}`", secret.id)).collect();
            Finding::error(what, commands.join(", ")).of("secret-deleted").affecting(names)
        })
    }

    /// One finding for all that are unusable for one reason, whose remedy it names itself. What lacks an open
    /// key alone is told of with the key.
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

    /// Podman takes a name for one of them, and which one that is changes with each removal.
    fn doubled(&self) -> Vec<Finding> {
        let of_psi = |same: &&[Secret]| same.iter().any(Secret::names_psi);
        let all = self.secrets.doubled().filter(of_psi).map(|same| {
            let names = same.iter().take(1).map(|secret| secret.name.as_str());
            Finding::warning(podman::doubled(same), "").of("secret-doubled").affecting(names)
        });
        all.collect()
    }

    /// What podman copied into a secret at its creation stays, whatever its config says since.
    fn frozen(&self, commands: &Commands) -> Vec<Finding> {
        let mut findings = Vec::new();
        let stale: Vec<&Secret> =
            self.of_psi().filter(|secret| !commands.are(&secret.options)).collect();
        let (python, moved): (Vec<&Secret>, Vec<&Secret>) =
            stale.into_iter().partition(|secret| is_python_s(secret));
        if !python.is_empty() {
            let shows = |secret: &&&Secret| secret.options.values().any(|it| it.contains("Bearer"));
            let token = match python.iter().filter(shows).count() {
                0 => String::new(),
                count => format!(
                    "; {count} of them show its bearer token to whoever may see podman's processes"
                ),
            };
            findings.push(Finding::error(
                format!(
                    "podman runs the Python PSI's commands for {}, which resolve only while that runs{token}: {}",
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
                "podman runs another psi-driver for {} than {}: {}",
                counted(moved.len(), "secret"),
                commands.program().display(),
                named(moved.iter().map(|secret| secret.name.as_str()))
            );
            let remedy = "`psictl migrate --from psi` corrects them in place";
            let finding = if gone > 0 {
                Finding::error(format!("{what}; for {gone} of them it is not there"), remedy)
            } else {
                Finding::warning(what, remedy)
            };
            let names = moved.iter().map(|secret| secret.name.as_str());
            findings.push(finding.of("old-commands").affecting(names));
        }
        findings
    }

    fn in_clear(&self) -> Option<Finding> {
        let of_files = self.secrets.iter().filter(|secret| secret.driver == "file");
        let names: Vec<&str> = of_files.map(|secret| secret.name.as_str()).collect();
        (!names.is_empty()).then(|| {
            Finding::warning(
                format!(
                    "podman's file driver keeps {} in clear: {}",
                    counted(names.len(), "secret"),
                    named(names.iter().copied())
                ),
                "`psictl migrate --from file` hands them to psid",
            )
            .of("file-driver")
            .affecting(names)
        })
    }

    /// Other podmans may have them: gc looks further. A podman that knows none of them is more likely another
    /// one, or one that lost its record.
    fn orphans(&self) -> Option<Finding> {
        let registered = self.registered.as_ref().filter(|_| self.sees_podman)?;
        let known: BTreeSet<SecretId> = podman::ids(self.secrets.iter());
        let orphans = registered.keys().filter(|id| !known.contains(id)).count();
        if orphans == 0 {
            return None;
        }
        if orphans == registered.len() {
            let what = format!(
                "podman knows none of the {} that psid has: it is another podman's store, or its record of secrets was \
                 lost",
                counted(orphans, "secret")
            );
            let remedy = "compare `podman info` with CONTAINERS_STORAGE_CONF; `psictl setup` registers what \
                          workloads want once more";
            return Some(Finding::warning(what, remedy).of("podman-empty"));
        }
        let what =
            format!("psid has {} that this podman does not know", counted(orphans, "registration"));
        let remedy = "`psictl gc --dry-run` tells which nobody knows";
        Some(Finding::note(what, remedy).of("orphan"))
    }
}

/// Why a registration is not usable, the same for all that are so: without the path of its file.
fn reason_of(one: &Registration) -> String {
    let after =
        one.description.split_once(&one.id).map_or(one.description.as_str(), |(_, after)| after);
    let reason = after.trim_start_matches([':', ' ']);
    if reason.is_empty() { one.description.clone() } else { reason.to_owned() }
}

/// The Python PSI's commands are curl, or a container of its own; ours name psi-driver.
fn is_python_s(secret: &Secret) -> bool {
    secret.options.get("lookup").is_some_and(|lookup| !lookup.contains("psi-driver"))
}

fn program_of(secret: &Secret) -> Option<&str> {
    secret.options.get("lookup")?.split_whitespace().find(|word| word.starts_with('/'))
}

fn not_there(program: &Path) -> Option<Finding> {
    (!is_program(program)).then(|| {
        Finding::error(
            format!("{} is no program, and podman runs it for each secret", program.display()),
            "install psi-driver there, or name its place with `psictl install --program`",
        )
        .of("psi-driver-missing")
    })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
