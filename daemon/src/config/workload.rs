//! `[workloads.NAME]`.

use std::collections::BTreeMap;
use std::time::Duration;

use psi_common::check;
use serde::Deserialize;
use toml::Spanned;

use super::InfisicalConfig;
use super::fault::Fault;
use super::mount::{self, RawMount};
use super::span::optional_span;
use crate::provider::Source;
use crate::provider::upstream::{ChangeAction, OnChange, Workload, WorkloadSource, WorkloadUser};

/// The longest name of a user (useradd(8) and glibc).
const MAX_USER_NAME: usize = 256;

/// The longest random delay before a changed value is applied.
const DEFAULT_JITTER: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorkload {
    provider: Spanned<String>,
    user: Option<Spanned<RawUser>>,
    #[serde(default)]
    depends_on: Vec<String>,
    #[serde(default)]
    on_change: RawChangeAction,
    on_change_jitter: Option<Spanned<String>>,
    #[serde(default)]
    mount: Vec<Spanned<RawMount>>,
    #[serde(default)]
    kube: bool,
    secrets: Vec<Spanned<RawSource>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawChangeAction {
    #[default]
    None,
    Restart,
    Reload,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a user must be a name or a uid")]
enum RawUser {
    Uid(u32),
    Name(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    project: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    recursive: bool,
    keys: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
}

fn root() -> String {
    "/".into()
}

impl RawWorkload {
    /// Where it is in the file.
    pub(super) fn place(&self) -> usize {
        self.provider.span().start
    }

    /// The number of its sources.
    pub(super) fn sources(&self) -> usize {
        self.secrets.len()
    }

    pub(super) fn check(
        self,
        name: &str,
        infisical: Option<&InfisicalConfig>,
    ) -> Result<Workload, Fault> {
        let at = Some(self.provider.span().start);
        check::without_controls("the workload", name)
            .map_err(|error| Fault { at, what: error.to_string() })?;
        let provider = self.provider.into_inner();
        let Some(infisical) = infisical.filter(|_| provider == "infisical") else {
            let what = match provider.as_str() {
                "pkcs11" | "nitrokeyhsm" => {
                    "a token has no directories to list; use provider = \"infisical\"".into()
                }
                _ => format!("there is no [providers.{provider}]"),
            };
            return Err(Fault { at, what: format!("workload '{name}': {what}") });
        };
        let mut sources = Vec::new();
        for raw in self.secrets {
            let at = Some(raw.span().start);
            let source = raw.into_inner().check(infisical);
            let fault = |why| Fault { at, what: format!("workload '{name}': {why}") };
            sources.push(source.map_err(fault)?);
        }
        let user = self.user.map(|user| check_user(name, user)).transpose()?;
        let on_change = OnChange {
            action: match self.on_change {
                RawChangeAction::None => ChangeAction::None,
                RawChangeAction::Restart => ChangeAction::Restart,
                RawChangeAction::Reload => ChangeAction::Reload,
            },
            max_jitter: optional_span(self.on_change_jitter, DEFAULT_JITTER)?,
        };
        let mount = mount::check(name, self.mount, &sources)?;
        let Self { depends_on, kube, .. } = self;
        Ok(Workload { provider, user, depends_on, mount, on_change, sources, kube })
    }
}

impl RawSource {
    fn check(self, infisical: &InfisicalConfig) -> Result<WorkloadSource, String> {
        let Self { project, path, recursive, keys, env } = self;
        if !infisical.projects.contains_key(&project) {
            return Err(format!("there is no [providers.infisical.projects.{project}]"));
        }
        check::path(&path).map_err(|error| error.to_string())?;
        let selects = match (&keys, &env) {
            (None, None) => None,
            (_, Some(_)) => Some("env"),
            (Some(_), None) => Some("keys"),
        };
        if let Some(member) = selects.filter(|_| recursive) {
            return Err(format!(
                "{member} and recursive = true exclude each other; name the directory of the keys as a source of its \
                 own"
            ));
        }
        let selected = selects.map(|_| select(keys, env)).transpose()?;
        Ok(WorkloadSource { source: Source { project, path, recursive }, selected })
    }
}

/// The keys by variable: those of `keys` under their own names, those of `env` under its.
fn select(
    keys: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>, String> {
    let is_empty = |what| format!("{what} has no key; remove it for all keys of the directory");
    if keys.as_ref().is_some_and(Vec::is_empty) {
        return Err(is_empty("keys"));
    }
    if env.as_ref().is_some_and(BTreeMap::is_empty) {
        return Err(is_empty("env"));
    }
    let mut selected = BTreeMap::new();
    for (variable, key) in env.unwrap_or_default() {
        check::variable(&variable).map_err(|error| error.to_string())?;
        check::key(&key).map_err(|error| error.to_string())?;
        selected.insert(variable, key);
    }
    for key in keys.unwrap_or_default() {
        check::key(&key).map_err(|error| error.to_string())?;
        if let Some(other) = selected.insert(key.clone(), key.clone()) {
            let key = check::excerpt(&key);
            return Err(match other == key {
                true => format!("'{key}' is selected twice"),
                false => format!(
                    "'{key}' is of keys, and a variable of env; name the variable otherwise"
                ),
            });
        }
    }
    Ok(selected)
}

/// As systemd's `User=`: digits are a uid.
fn check_user(workload: &str, user: Spanned<RawUser>) -> Result<WorkloadUser, Fault> {
    let at = Some(user.span().start);
    let fault =
        |what: &str| Err(Fault { at, what: format!("workload '{workload}': the user {what}") });
    let user = match user.into_inner() {
        RawUser::Uid(uid) => WorkloadUser::Uid(uid),
        RawUser::Name(name) if !name.is_empty() && name.bytes().all(|c| c.is_ascii_digit()) => {
            match name.parse() {
                Ok(uid) => WorkloadUser::Uid(uid),
                Err(_) => return fault("is no uid"),
            }
        }
        RawUser::Name(name) => {
            let is_name = (1..=MAX_USER_NAME).contains(&name.len())
                && !name.contains(|c: char| c.is_control() || c == ':' || c == '/');
            if !is_name {
                return fault("is no name of a user");
            }
            WorkloadUser::named(name)
        }
    };
    // As an argument of setresuid(2), the last uid means no change.
    if user == WorkloadUser::Uid(u32::MAX) { fault("is no uid") } else { Ok(user) }
}
