//! Podman's secrets, against what psid has registered and what podman is to run for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use psi_common::{Finding, Paths, SecretId};
use psi_proto::v1::{Registration, RegistrationKind};

use super::{counted, named};
use crate::client::{Client, Patience};
use crate::failure::Failure;
use crate::podman::{self, Commands, Secret, Secrets};

/// What podman and psid know.
pub(super) struct Seen {
    pub(super) secrets: Secrets,
    /// None: psid does not answer.
    registered: Option<BTreeMap<SecretId, Registration>>,
    failure: Option<Failure>,
}

impl Seen {
    pub(super) fn look(paths: &Paths) -> Self {
        let registered = Client::new(paths, Patience::Probe).registrations().ok().map(|all| {
            all.into_iter().filter_map(|one| Some((one.id.parse().ok()?, one))).collect()
        });
        match podman::secrets() {
            Ok(secrets) => Self { secrets, registered, failure: None },
            Err(failure) => {
                Self { secrets: Secrets::default(), registered, failure: Some(failure) }
            }
        }
    }

    pub(super) fn findings(&self, commands: &Commands) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings
            .extend(self.failure.as_ref().map(|failure| Finding::error(failure.to_string(), "")));
        findings.extend(not_there(commands.program()));
        findings.extend(self.unknown());
        findings.extend(self.unusable());
        findings.extend(self.frozen(commands));
        findings.extend(self.in_clear());
        findings.extend(self.orphans());
        findings
    }

    fn of_psi(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().filter(|secret| secret.names_psi())
    }

    /// PR #29 of the Python PSI: what podman asks for by its id must be known by its id.
    fn unknown(&self) -> Option<Finding> {
        let registered = self.registered.as_ref()?;
        let unknown: Vec<&str> = self
            .of_psi()
            .filter(|secret| !registered.contains_key(&secret.id))
            .map(|secret| secret.name.as_str())
            .collect();
        (!unknown.is_empty()).then(|| {
            Finding::error(
                format!(
                    "psid does not know {} of podman's, and no container starts with them: {}",
                    counted(unknown.len(), "secret"),
                    named(unknown)
                ),
                "`psi-driver setup` registers a workload's again; create the others again",
            )
        })
    }

    fn unusable(&self) -> Vec<Finding> {
        let registered = self.registered.iter().flat_map(BTreeMap::values);
        let unusable = registered.filter(|one| one.kind() == RegistrationKind::Unusable);
        let all = unusable.map(|one| {
            Finding::error(format!("secret {}: {}", one.id, one.about), "create it again")
        });
        all.take(super::NAMED).collect()
    }

    /// What podman copied into a secret at its creation stays, whatever its config says since.
    fn frozen(&self, commands: &Commands) -> Vec<Finding> {
        let mut findings = Vec::new();
        let wanted = commands.options();
        let stale: Vec<&Secret> = self.of_psi().filter(|secret| secret.options != wanted).collect();
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
                "`psi-driver migrate --from psi` corrects them in place",
            ));
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
            let remedy = "`psi-driver migrate --from psi` corrects them in place";
            findings.push(if gone > 0 {
                Finding::error(format!("{what}; for {gone} of them it is not there"), remedy)
            } else {
                Finding::warning(what, remedy)
            });
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
                    named(names)
                ),
                "`psi-driver migrate --from file` hands them to psid",
            )
        })
    }

    /// Other podmans may have them: gc looks further.
    fn orphans(&self) -> Option<Finding> {
        let known: BTreeSet<SecretId> = podman::ids(self.secrets.iter());
        let orphans = self.registered.as_ref()?.keys().filter(|id| !known.contains(id)).count();
        (orphans > 0).then(|| {
            Finding::note(
                format!(
                    "psid has {} that this podman does not know",
                    counted(orphans, "registration")
                ),
                "`psi-driver gc --dry-run` tells which nobody knows",
            )
        })
    }
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
            "install psi-driver there, or name its place with `psi-driver install --program`",
        )
    })
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
