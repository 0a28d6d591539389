//! Infisical: projects, environments and directories of secrets behind an HTTP API. The API calls a directory a
//! folder.

mod auth;
mod certificate;
mod client;
mod directory;
mod flights;
mod login_check;
mod references;
mod response;
mod source;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use psi_common::{CheckProblem, SecretBytes, check};

use super::{
    CredentialExpiry, Fetched, InvalidReference, Listed, Persistence, ProviderCheck, ProviderError,
    SecretProvider, SecretWriter, Source,
};
use crate::cache::FetchEpoch;
use crate::model::clock::Now;
use crate::model::reference::{CacheKey, ListingScope, Namespace, Reference, shown};
use crate::storage::failed_logins::FailedLogins;
use auth::{AccessToken, TokenSource};
use client::{Api, ApiConfigError, DirectoryRef, View};
use directory::{Contents, Slot};
use flights::Flights;
use response::ApiError;
use source::Remainders;

pub use auth::{AwsIam, Azure, Gcp, Method, SecretSource, UniversalAuth};
pub(crate) use auth::{PrivateKey, StaticToken, TlsCert, TokenFile, TokenKind};

/// The most bytes of path and key together: a URL needs up to three for each, and proxies accept 8 KiB.
const MAX_NAME: usize = 2_000;

/// The provider of `[providers.infisical]`.
pub struct Infisical {
    /// `Err` if there is no client; cached values are served all the same.
    api: Result<Api, ApiConfigError>,
    projects: HashMap<String, Project>,
    flights: Flights,
    remainders: Remainders,
}

/// A project of the config, as the API knows it.
pub struct Project {
    id: String,
    environment: String,
    tokens: Arc<TokenSource>,
    /// Made once, because each lookup copies it.
    namespace: Namespace,
}

/// The token source of an identity; projects of one identity share one.
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
        Self { api, projects, flights: Flights::default(), remainders: Remainders::default() }
    }

    /// What prevents all calls: a wrong URL, a missing CA file.
    pub fn fault(&self) -> Option<String> {
        self.api.as_ref().err().map(ToString::to_string)
    }

    fn api(&self) -> Result<&Api, ProviderError> {
        self.api.as_ref().map_err(|error| ProviderError::Unreachable(error.to_string()))
    }

    /// Each identity once, ordered by name.
    fn identities(&self) -> Vec<&TokenSource> {
        let all = self.projects.values().map(|project| &*project.tokens);
        let by_name: BTreeMap<&str, &TokenSource> =
            all.map(|tokens| (tokens.identity(), tokens)).collect();
        by_name.into_values().collect()
    }

    fn project(&self, name: &str) -> Result<&Project, InvalidReference> {
        self.projects.get(name).ok_or_else(|| InvalidReference::UnknownProject(name.to_owned()))
    }

    /// Calls with the access token; a token that has ended is replaced once.
    async fn call<T, F>(
        &self,
        project: &Project,
        call: impl Fn(Arc<AccessToken>) -> F,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let api = self.api()?;
        let mut token = project.tokens.token(api).await?;
        let mut answer = call(Arc::clone(&token)).await.map_err(ProviderError::from);
        if let Err(why) = &answer
            && is_token_rejected(why)
        {
            token = project.tokens.replace_rejected(&token, api, why.clone()).await?;
            answer = call(Arc::clone(&token)).await.map_err(ProviderError::from);
            if let Err(why) = &answer
                && is_token_rejected(why)
            {
                project.tokens.new_token_rejected(why).await;
            }
        }
        // An answer about a secret shows that the token was accepted.
        if let Ok(_) | Err(ProviderError::Denied(_) | ProviderError::NotFound(_)) = &answer {
            project.tokens.token_accepted(&token);
        }
        answer
    }
}

/// Whether the access token was refused.
fn is_token_rejected(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Unauthenticated { wait: None, .. })
}

#[async_trait]
impl SecretProvider for Infisical {
    fn accept(&self, reference: &Reference) -> Result<CacheKey, InvalidReference> {
        let member = |name| {
            let text = reference.member(name).filter(|text| !text.is_empty());
            text.ok_or(InvalidReference::Missing(name))
        };
        let project = member("project")?;
        check::project(project)?;
        let project = self.project(project)?;
        let path = normal_path(reference.member("path").unwrap_or("/"));
        check::path(&path)?;
        let key = member("key")?;
        check::key(key)?;
        if path.len() + key.len() > MAX_NAME {
            return Err(InvalidReference::TooLong(MAX_NAME));
        }
        if let Some(unknown) =
            reference.members().find(|name| !["project", "path", "key"].contains(name))
        {
            let (member, provider) = (unknown.to_owned(), "an infisical");
            return Err(InvalidReference::UnknownMember { member, provider });
        }
        Ok(CacheKey::new(project.namespace.clone(), path, key))
    }

    async fn fetch(
        &self,
        reference: &Reference,
        epoch: FetchEpoch,
    ) -> Result<Fetched, ProviderError> {
        let key = self.accept(reference)?;
        let project = self.project(reference.member("project").unwrap_or_default())?;
        if self.is_rate_limited(&key.namespace)
            && let Some(value) = self.without_references(project, &key).await
        {
            return Ok(value.into());
        }
        let directory = ListingScope {
            namespace: key.namespace.clone(),
            path: key.path.to_string(),
            recursive: false,
        };
        let (read, is_own) = self.read_shared(project, &directory, epoch).await;
        match read {
            Ok(contents) => {
                let value = self.value_in(project, &key, &contents).await?;
                let beside = if is_own { beside(&key, &contents) } else { Vec::new() };
                Ok(Fetched { value, beside })
            }
            // The identity may still read this one secret.
            Err(ProviderError::Denied(_)) => {
                Ok(self.by_name(project, &key, View::Expanded).await?.into())
            }
            // A request for one secret has a rate limit of its own, and may succeed where the listing fails.
            Err(error @ (ProviderError::Throttled { .. } | ProviderError::Failed(_))) => {
                self.without_references(project, &key).await.map(Fetched::from).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    fn scope_of(&self, source: &Source) -> Result<ListingScope, InvalidReference> {
        let project = self.project(&source.project)?;
        let path = normal_path(&source.path);
        check::path(&path)?;
        Ok(ListingScope { namespace: project.namespace.clone(), path, recursive: source.recursive })
    }

    async fn list(
        &self,
        source: &Source,
        directories: &BTreeSet<String>,
    ) -> Result<Listed, ProviderError> {
        let scope = self.scope_of(source)?;
        let project = self.project(&source.project)?;
        self.list_source(project, scope, directories).await
    }

    fn has_namespace(&self, namespace: &Namespace) -> bool {
        self.projects.values().any(|project| project.namespace == *namespace)
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persisted
    }

    fn writer(&self) -> Option<&dyn SecretWriter> {
        Some(self)
    }

    /// Revokes the access tokens: they would stay valid for hours or days.
    async fn close(&self) {
        let Ok(api) = self.api() else { return };
        for tokens in self.identities() {
            if let Err(error) = tokens.revoke(api).await {
                tracing::debug!("the access token is not revoked: {error}");
            }
        }
    }

    fn identity(&self, namespace: &Namespace) -> String {
        let project = self.projects.values().find(|project| project.namespace == *namespace);
        project.map_or_else(String::new, |project| project.tokens.identity().to_owned())
    }

    fn clear_backoff(&self, retry: bool) {
        self.identities().into_iter().for_each(|tokens| tokens.clear_backoff(retry));
    }

    fn login_faults(&self) -> Vec<String> {
        self.identities().into_iter().filter_map(TokenSource::fault).collect()
    }

    fn expiring_credentials(&self) -> Vec<CredentialExpiry> {
        self.identities().into_iter().filter_map(|tokens| tokens.method().expiry()).collect()
    }

    async fn check_logins(&self, retry: bool, now: Now) -> ProviderCheck {
        self.check(retry, now).await
    }

    fn explain(&self, source: &Source, error: &ProviderError) -> CheckProblem {
        self.explain_source(source, error)
    }

    async fn status(&self) -> Result<(), ProviderError> {
        match self.api()?.status().await.map_err(ApiError::into) {
            // Any answer of the server itself shows that it is available.
            Ok(())
            | Err(
                ProviderError::Unauthenticated { .. }
                | ProviderError::Denied(_)
                | ProviderError::NotFound(_)
                | ProviderError::Misbehaved(_)
                | ProviderError::Throttled { .. },
            ) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Infisical {
    /// A secret's value in its directory's contents.
    async fn value_in(
        &self,
        project: &Project,
        key: &CacheKey,
        contents: &Contents,
    ) -> Result<SecretBytes, ProviderError> {
        match contents.slots.get(key) {
            Some(Slot::Value(value)) => Ok(copy_of(value)),
            Some(Slot::ByName) => self.by_name(project, key, View::Expanded).await,
            Some(Slot::Denied(why)) => Err(ProviderError::Denied(why.clone())),
            Some(Slot::Unread(why)) => Err(ProviderError::Misbehaved(why.clone())),
            None => Err(ProviderError::NotFound(format!(
                "Infisical has no secret '{}' in {}",
                shown(&key.key),
                shown(&key.path)
            ))),
        }
    }

    /// A value by name, if it has no reference: then it is the same as in a listing.
    async fn without_references(&self, project: &Project, key: &CacheKey) -> Option<SecretBytes> {
        let value = self.by_name(project, key, View::Unexpanded).await.ok()?;
        let text = std::str::from_utf8(value.expose_secret()).unwrap_or_default();
        (!references::has_any(text)).then_some(value)
    }
}

/// The other values of a secret's directory.
fn beside(key: &CacheKey, contents: &Contents) -> Vec<(CacheKey, SecretBytes)> {
    let others = contents.slots.iter().filter(|(other, _)| *other != key);
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
    /// A project with its UUID, its environment's slug, and the token source that reads it.
    pub fn new(id: String, environment: String, tokens: Arc<TokenSource>) -> Self {
        let namespace = Namespace::new(&["infisical", &id, &environment]);
        Self { id, environment, tokens, namespace }
    }

    fn directory<'a>(&'a self, path: &'a str) -> DirectoryRef<'a> {
        DirectoryRef { project_id: &self.id, environment: &self.environment, path }
    }
}

/// A path in the server's form: absolute, with single slashes and none at the end.
fn normal_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
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
    fn spellings_of_a_path_have_one_key() {
        let provider = provider();
        let key_of = |path: &str| {
            let members = [("project", "p"), ("path", path), ("key", "K")];
            provider.accept(&Reference::new("infisical", members)).unwrap()
        };
        assert_eq!(&*key_of("/app/sub").path, "/app/sub");
        for path in ["app/sub", "/app/sub/", "//app//sub"] {
            assert_eq!(key_of(path), key_of("/app/sub"));
        }
        assert_eq!(&*key_of("").path, "/");
    }

    #[test]
    fn invalid_references_are_refused_with_the_reason() {
        let why = |members: &[(&str, &str)]| {
            let reference = Reference::new("infisical", members.iter().copied());
            provider().accept(&reference).unwrap_err().to_string()
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
            assert!(why(members).len() < 200, "the message must fit into a header");
        }
    }
}
