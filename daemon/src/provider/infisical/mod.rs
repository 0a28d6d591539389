//! Infisical: projects, environments and folders of secrets behind an HTTP API.

mod auth;
mod client;
mod directory;
mod flights;
mod references;
mod response;
mod source;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use psi_common::{SecretBytes, check};

use super::{Fetched, Listed, Persistence, ProviderError, SecretProvider, SecretWriter, Source};
use crate::cache::FetchEpoch;
use crate::model::reference::{CacheKey, ListingScope, Namespace, Reference, shown};
use crate::storage::failed_logins::FailedLogins;
use auth::{Token, TokenSource};
use client::{Api, Folder, View};
use directory::{Contents, Slot};
use flights::Flights;
use response::ApiError;
use source::Rests;

pub(crate) use auth::Kubernetes;
pub use auth::{AwsIam, Azure, Gcp, Method, SecretSource, UniversalAuth};

/// Of path and key together, in bytes: of which a URL makes three each, and proxies take 8 KiB.
const LONGEST_NAME: usize = 2_000;

/// How long the schedule waits for something to log in with. To look for it costs no login.
const LOGIN_RESTS: Duration = Duration::from_secs(60);

/// The provider of `[providers.infisical]`.
pub struct Infisical {
    /// `Err` says why there can be no client; what is cached is served all the same.
    api: Result<Api, String>,
    projects: HashMap<String, Project>,
    flights: Flights,
    rests: Rests,
}

/// A project of the config, as the API knows it.
pub struct Project {
    id: String,
    environment: String,
    tokens: Arc<TokenSource>,
    /// Made once: each lookup has it.
    realm: Namespace,
}

/// A token source for an identity; projects of one identity share one.
pub fn token_source(
    method: Box<dyn Method>,
    api_url: &str,
    failed_logins: FailedLogins,
) -> Arc<TokenSource> {
    Arc::new(TokenSource::new(method, api_url, failed_logins))
}

impl Infisical {
    /// The provider at `api_url`.
    pub fn new(
        api_url: &str,
        ca_cert: Option<&Path>,
        timeout: Duration,
        projects: HashMap<String, Project>,
    ) -> Self {
        let api = Api::new(api_url, ca_cert, timeout);
        Self { api, projects, flights: Flights::default(), rests: Rests::default() }
    }

    /// What keeps it from asking anything: a wrong URL, a missing CA file.
    pub fn fault(&self) -> Option<&str> {
        self.api.as_ref().err().map(String::as_str)
    }

    fn api(&self) -> Result<&Api, ProviderError> {
        self.api.as_ref().map_err(|why| ProviderError::Unreachable(why.clone()))
    }

    /// Each identity once, in the order of their names.
    fn identities(&self) -> Vec<&TokenSource> {
        let all = self.projects.values().map(|project| &*project.tokens);
        let by_name: BTreeMap<&str, &TokenSource> =
            all.map(|tokens| (tokens.identity(), tokens)).collect();
        by_name.into_values().collect()
    }

    fn project(&self, name: &str) -> Result<&Project, String> {
        self.projects.get(name).ok_or_else(|| {
            format!("the config has no [providers.infisical.projects.{}]", shown(name))
        })
    }

    /// Calls with a token; one that ended is replaced once.
    async fn call<T, F>(
        &self,
        project: &Project,
        call: impl Fn(Arc<Token>) -> F,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let api = self.api()?;
        let mut token = project.tokens.token(api).await?;
        let answer = match call(Arc::clone(&token)).await {
            Err(why @ ApiError::Token(_)) => {
                token = project.tokens.replace_rejected(&token, api, why).await?;
                let answer = call(Arc::clone(&token)).await;
                if let Err(error @ ApiError::Token(_)) = &answer {
                    project.tokens.refused_at_once(error).await;
                }
                answer
            }
            answer => answer,
        };
        // An answer about a secret says that the token is taken.
        if let Ok(_) | Err(ApiError::Denied(_) | ApiError::Gone(_)) = &answer {
            project.tokens.served(&token);
        }
        Ok(answer?)
    }
}

#[async_trait]
impl SecretProvider for Infisical {
    fn accept(&self, reference: &Reference) -> Result<CacheKey, String> {
        let member = |name: &str| {
            reference
                .member(name)
                .filter(|text| !text.is_empty())
                .ok_or_else(|| format!("the reference has no \"{name}\""))
        };
        let project = member("project")?;
        check::project(project).map_err(|why| why.to_string())?;
        let project = self.project(project)?;
        let path = normal_path(reference.member("path").unwrap_or("/"));
        check::path(&path).map_err(|why| why.to_string())?;
        let key = member("key")?;
        check::key(key).map_err(|why| why.to_string())?;
        if path.len() + key.len() > LONGEST_NAME {
            return Err(format!(
                "path and key have more than {LONGEST_NAME} bytes, which no URL carries"
            ));
        }
        if let Some(unknown) =
            reference.members().find(|name| !["project", "path", "key"].contains(name))
        {
            return Err(format!("\"{}\" is no member of an infisical reference", shown(unknown)));
        }
        Ok(CacheKey::new(project.realm.clone(), path, key))
    }

    async fn fetch(
        &self,
        reference: &Reference,
        epoch: FetchEpoch,
    ) -> Result<Fetched, ProviderError> {
        let at = self.accept(reference).map_err(ProviderError::Misbehaved)?;
        let project = self
            .project(reference.member("project").unwrap_or_default())
            .map_err(ProviderError::Misbehaved)?;
        if self.is_paused(&at.realm)
            && let Some(value) = self.unreferring(project, &at).await
        {
            return Ok(value.into());
        }
        let directory =
            ListingScope { realm: at.realm.clone(), path: at.path.to_string(), recursive: false };
        let (read, is_own) = self.read_shared(project, &directory, epoch).await;
        match read {
            Ok(contents) => {
                let value = self.value_in(project, &at, &contents).await?;
                let beside = if is_own { beside(&at, &contents) } else { Vec::new() };
                Ok(Fetched { value, beside })
            }
            // The identity may read this one all the same.
            Err(ProviderError::Denied(_)) => {
                Ok(self.by_name(project, &at, View::Expanded).await?.into())
            }
            // A get has a rate limit of its own, and may be well where the listing fails.
            Err(error @ (ProviderError::Throttled { .. } | ProviderError::Failed(_))) => {
                self.unreferring(project, &at).await.map(Fetched::from).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    fn scope_of(&self, source: &Source) -> Result<ListingScope, String> {
        let project = self.project(&source.project)?;
        let path = normal_path(&source.path);
        check::path(&path).map_err(|why| why.to_string())?;
        Ok(ListingScope { realm: project.realm.clone(), path, recursive: source.recursive })
    }

    async fn list(
        &self,
        source: &Source,
        folders: &BTreeSet<String>,
    ) -> Result<Listed, ProviderError> {
        let extent = self.scope_of(source).map_err(ProviderError::Misbehaved)?;
        let project = self.project(&source.project).map_err(ProviderError::Misbehaved)?;
        self.list_source(project, extent, folders).await
    }

    fn has_namespace(&self, realm: &Namespace) -> bool {
        self.projects.values().any(|project| project.realm == *realm)
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persisted
    }

    fn writer(&self) -> Option<&dyn SecretWriter> {
        Some(self)
    }

    /// An access token that psid leaves behind is good for hours or days.
    async fn close(&self) {
        let Ok(api) = self.api() else { return };
        for tokens in self.identities() {
            if let Err(error) = tokens.revoke(api).await {
                tracing::debug!("the access token is not revoked: {error}");
            }
        }
    }

    fn identity(&self, realm: &Namespace) -> String {
        let project = self.projects.values().find(|project| project.realm == *realm);
        project.map_or_else(String::new, |project| project.tokens.identity().to_owned())
    }

    fn clear_backoff(&self, retry: bool) {
        self.identities().into_iter().for_each(|tokens| tokens.clear_backoff(retry));
    }

    fn login_faults(&self) -> Vec<String> {
        self.identities().into_iter().filter_map(TokenSource::fault).collect()
    }

    async fn status(&self) -> Result<(), ProviderError> {
        match self.api()?.status().await {
            // Whatever the server itself says, it is there.
            Ok(())
            | Err(
                ApiError::Token(_)
                | ApiError::Denied(_)
                | ApiError::Gone(_)
                | ApiError::ClientBug(_)
                | ApiError::Throttled { .. }
                | ApiError::NoRoute,
            ) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Infisical {
    /// A secret's value, as its directory has it.
    async fn value_in(
        &self,
        project: &Project,
        at: &CacheKey,
        contents: &Contents,
    ) -> Result<SecretBytes, ProviderError> {
        match contents.slots.get(at) {
            Some(Slot::Value(value)) => Ok(copy_of(value)),
            Some(Slot::ByName) => self.by_name(project, at, View::Expanded).await,
            Some(Slot::Denied(why)) => Err(ProviderError::Denied(why.clone())),
            Some(Slot::Unread(why)) => Err(ProviderError::Misbehaved(why.clone())),
            None => Err(ProviderError::NotFound(format!(
                "Infisical has no secret '{}' in {}",
                shown(&at.key),
                shown(&at.path)
            ))),
        }
    }

    /// A value by name, if there is no reference in it: then a listing has the same.
    async fn unreferring(&self, project: &Project, at: &CacheKey) -> Option<SecretBytes> {
        let value = self.by_name(project, at, View::Unexpanded).await.ok()?;
        let text = std::str::from_utf8(value.expose_secret()).unwrap_or_default();
        (!references::has_any(text)).then_some(value)
    }
}

/// The other values of a secret's directory.
fn beside(at: &CacheKey, contents: &Contents) -> Vec<(CacheKey, SecretBytes)> {
    let others = contents.slots.iter().filter(|(other, _)| *other != at);
    let values = others.filter_map(|(other, slot)| match slot {
        Slot::Value(value) => Some((other.clone(), copy_of(value))),
        Slot::ByName | Slot::Denied(_) | Slot::Unread(_) => None,
    });
    values.collect()
}

fn copy_of(value: &SecretBytes) -> SecretBytes {
    SecretBytes::new(value.expose_secret().to_vec())
}

impl Project {
    /// A project, by its UUID, the slug of its environment, and whose token reads it.
    pub fn new(id: String, environment: String, tokens: Arc<TokenSource>) -> Self {
        let realm = Namespace::new(&["infisical", &id, &environment]);
        Self { id, environment, tokens, realm }
    }

    fn folder<'a>(&'a self, path: &'a str) -> Folder<'a> {
        Folder { project_id: &self.id, environment: &self.environment, path }
    }
}

/// Absolute, with single slashes, and with none at the end: as the server takes it.
fn normal_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

impl From<ApiError> for ProviderError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Outage(why) => Self::Unreachable(why),
            ApiError::Busy { why, wait } => Self::Unavailable { why, wait },
            ApiError::TimedOut(why) => Self::TimedOut(why),
            ApiError::Odd(why) | ApiError::Internal(why) => Self::Failed(why),
            ApiError::NoRoute => Self::Failed("Infisical has no such route".into()),
            ApiError::Throttled { why, wait } => Self::Throttled { why, wait },
            // A token that is not taken is a matter of the login, and says nothing of any secret.
            ApiError::Token(why) => Self::Unauthenticated { why, wait: None },
            ApiError::Locked(why) => Self::Unauthenticated { why, wait: Some(LOGIN_RESTS) },
            ApiError::Login { why, wait } => Self::Unauthenticated { why, wait: Some(wait) },
            ApiError::NoCredential { why, wait } => {
                Self::Unauthenticated { why, wait: Some(wait.unwrap_or(LOGIN_RESTS)) }
            }
            ApiError::Denied(why) => Self::Denied(why),
            ApiError::Gone(why) => Self::NotFound(why),
            ApiError::ClientBug(why) => Self::Misbehaved(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Infisical {
        let auth = UniversalAuth {
            client_id: "id".into(),
            client_secret: SecretSource::File("/nonexistent".into()),
        };
        let tokens = token_source(Box::new(auth), "http://127.0.0.1:1", FailedLogins::in_ram());
        let project = Project::new("uuid".into(), "prod".into(), tokens);
        Infisical::new(
            "http://127.0.0.1:1/api/",
            None,
            Duration::from_secs(1),
            HashMap::from([("p".to_owned(), project)]),
        )
    }

    #[test]
    fn one_secret_has_one_coordinate_however_it_is_written() {
        let provider = provider();
        let at = |path: &str| {
            let members = [("project", "p"), ("path", path), ("key", "K")];
            provider.accept(&Reference::new("infisical", members)).unwrap()
        };
        assert_eq!(&*at("/app/sub").path, "/app/sub");
        for path in ["app/sub", "/app/sub/", "//app//sub"] {
            assert_eq!(at(path), at("/app/sub"));
        }
        assert_eq!(&*at("").path, "/");
    }

    #[test]
    fn what_is_wrong_with_a_reference_is_named() {
        let why = |members: &[(&str, &str)]| {
            provider().accept(&Reference::new("infisical", members.iter().copied())).unwrap_err()
        };
        assert_eq!(why(&[("project", "p")]), "the reference has no \"key\"");
        assert_eq!(why(&[("key", "K")]), "the reference has no \"project\"");
        assert!(
            why(&[("key", "K"), ("project", "q")]).contains("[providers.infisical.projects.q]")
        );
        let long = "x".repeat(100_000);
        for members in [
            [("project", "p"), ("key", &long)].as_slice(),
            &[("project", "p"), ("path", &long), ("key", "K")],
            &[("project", &long), ("key", "K")],
            &[("project", "p"), ("key", "K"), (&long, "")],
        ] {
            assert!(why(members).len() < 200, "a refusal must fit into a header");
        }
    }
}
