//! Infisical: projects, environments and folders of secrets behind an HTTP API.

mod answer;
mod api;
mod auth;
mod write;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Fetched, Keeping, Listed, ProviderError, SecretProvider, SecretWriter, Source};
use crate::cache::Ticket;
use crate::reference::{Coordinates, Extent, Listing, Realm, Reference, shown};
use answer::ApiError;
use api::{Api, Folder, Secret};
use auth::{Token, TokenSource};

pub use auth::{AwsIam, Azure, Gcp, Kubernetes, Method, SecretSource, UniversalAuth};

/// Of path and key together, in bytes: of which a URL makes three each, and proxies take 8 KiB.
const LONGEST_NAME: usize = 2_000;

/// How long the schedule waits for something to log in with. To look for it costs no login.
const LOGIN_RESTS: Duration = Duration::from_secs(60);

/// The provider of `[providers.infisical]`.
pub struct Infisical {
    /// `Err` says why there can be no client; what is cached is served all the same.
    api: Result<Api, String>,
    projects: HashMap<String, Project>,
}

/// A project of the config, as the API knows it.
pub struct Project {
    id: String,
    environment: String,
    tokens: Arc<TokenSource>,
    /// Made once: each lookup has it.
    realm: Realm,
}

/// A token source for an identity; projects of one identity share one.
pub fn token_source(method: Box<dyn Method>) -> Arc<TokenSource> {
    Arc::new(TokenSource::new(method))
}

impl Infisical {
    /// The provider at `api_url`.
    pub fn new(
        api_url: &str,
        ca_cert: Option<&Path>,
        timeout: Duration,
        projects: HashMap<String, Project>,
    ) -> Self {
        Self { api: Api::new(api_url, ca_cert, timeout), projects }
    }

    /// What keeps it from asking anything: a wrong URL, a missing CA file.
    pub fn fault(&self) -> Option<&str> {
        self.api.as_ref().err().map(String::as_str)
    }

    fn api(&self) -> Result<&Api, ProviderError> {
        self.api.as_ref().map_err(|why| ProviderError::Unreachable(why.clone()))
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
        let token = project.tokens.token(api).await?;
        let answer = match call(Arc::clone(&token)).await {
            Err(why @ ApiError::Token(_)) => {
                let token = project.tokens.instead_of(&token, api, why).await?;
                let answer = call(Arc::clone(&token)).await;
                answer.inspect(|_| token.prove())
            }
            answer => answer.inspect(|_| token.prove()),
        };
        Ok(answer?)
    }
}

#[async_trait]
impl SecretProvider for Infisical {
    fn accept(&self, reference: &Reference) -> Result<Coordinates, String> {
        let member = |name: &str| {
            reference
                .member(name)
                .filter(|text| !text.is_empty())
                .ok_or_else(|| format!("the reference has no \"{name}\""))
        };
        let project = self.project(member("project")?)?;
        let path = normal_path(reference.member("path").unwrap_or("/"));
        let key = member("key")?;
        if [".", ".."].contains(&key) {
            return Err(format!("no URL can name a key \"{key}\""));
        }
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
        Ok(Coordinates::new(project.realm.clone(), path, key))
    }

    async fn fetch(&self, reference: &Reference, _: Ticket) -> Result<Fetched, ProviderError> {
        let at = self.accept(reference).map_err(ProviderError::Misbehaved)?;
        let project = self
            .project(reference.member("project").unwrap_or_default())
            .map_err(ProviderError::Misbehaved)?;
        let (api, folder, key) = (self.api()?, project.folder(&at.path), &*at.key);
        let secret =
            self.call(project, |token| async move { api.secret(token.text(), folder, key).await });
        Ok(secret.await?.into())
    }

    fn extent(&self, source: &Source) -> Result<Extent, String> {
        let project = self.project(&source.project)?;
        Ok(Extent {
            realm: project.realm.clone(),
            path: normal_path(&source.path),
            recursive: source.recursive,
        })
    }

    async fn list(
        &self,
        source: &Source,
        folders: &BTreeSet<String>,
    ) -> Result<Listed, ProviderError> {
        let whole = self.extent(source).map_err(ProviderError::Misbehaved)?;
        let project = self.project(&source.project).map_err(ProviderError::Misbehaved)?;
        let mut secrets = HashMap::new();
        let imports = self.list_into(&mut secrets, project, &whole).await?;
        if !(whole.recursive && imports) {
            return Ok(listing(vec![whole], secrets).into());
        }
        // A recursive listing names what is imported and not which of its folders import it: each is
        // asked for its own.
        let mut paths: BTreeSet<String> =
            secrets.drain().map(|(at, _)| at.path.to_string()).collect();
        paths.extend(folders.iter().cloned());
        paths.insert(whole.path.clone());
        let mut extents = Vec::new();
        for path in paths {
            let folder = Extent { path, recursive: false, ..whole.clone() };
            match self.list_into(&mut secrets, project, &folder).await {
                Ok(_) => extents.push(folder),
                // What is known of a folder that is gone waits to be confirmed, one by one.
                Err(ProviderError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listing(extents, secrets).into())
    }

    fn knows(&self, realm: &Realm) -> bool {
        self.projects.values().any(|project| project.realm == *realm)
    }

    fn keeping(&self) -> Keeping {
        Keeping::OnDisk
    }

    fn writer(&self) -> Option<&dyn SecretWriter> {
        Some(self)
    }

    async fn status(&self) -> Result<(), ProviderError> {
        Ok(self.api()?.status().await?)
    }
}

impl Infisical {
    /// Lists one extent. Returns whether anything in it is imported.
    async fn list_into(
        &self,
        secrets: &mut HashMap<Coordinates, Secret>,
        project: &Project,
        extent: &Extent,
    ) -> Result<bool, ProviderError> {
        let (api, folder, recursive) =
            (self.api()?, project.folder(&extent.path), extent.recursive);
        let listing =
            self.call(project, |token| async move {
                api.secrets(token.text(), folder, recursive).await
            })
            .await?;
        let imports = !listing.imports.is_empty();
        // In the order of precedence, lowest first: imports, of which the last one wins, then the
        // folder's own.
        let imported = listing.imports.into_iter().flat_map(|import| import.secrets);
        let imported = imported.map(|secret| (None, secret));
        let own = listing.secrets.into_iter().map(|mut secret| (secret.secret_path.take(), secret));
        // One text for all secrets of a folder, which come one after the other.
        let mut folder: Arc<str> = extent.path.as_str().into();
        for (path, secret) in imported.chain(own) {
            let path = path.map_or_else(|| extent.path.clone(), |path| normal_path(&path));
            if *folder != *path {
                folder = path.into();
            }
            let key = secret.secret_key.as_str();
            let at = Coordinates::new(extent.realm.clone(), Arc::clone(&folder), key);
            secrets.insert(at, secret);
        }
        Ok(imports)
    }
}

/// One secret that is hidden from us says nothing of the others.
fn listing(extents: Vec<Extent>, secrets: HashMap<Coordinates, Secret>) -> Listing {
    let mut listing = Listing { extents, ..Listing::default() };
    for (at, secret) in secrets {
        match secret.value() {
            Ok(value) => listing.found.push((at, value)),
            Err(why) => listing.denied.push((at, why.to_string())),
        }
    }
    listing
}

impl Project {
    /// A project, by its UUID, the slug of its environment, and whose token reads it.
    pub fn new(id: String, environment: String, tokens: Arc<TokenSource>) -> Self {
        let realm = Realm::new(&["infisical", &id, &environment]);
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
        let tokens = token_source(Box::new(auth));
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
