//! A psid's parts, with a provider that needs no network.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use psi_common::{Paths, SecretBytes};
use psi_daemon::testing::cache::{BootId, FetchEpoch};
use psi_daemon::testing::config::Config;
use psi_daemon::testing::model::reference::{
    CacheKey, Listing, ListingScope, Namespace, Reference,
};
use psi_daemon::testing::provider::infisical::{
    Infisical, Method, Project, SecretSource, UniversalAuth, token_source,
};
use psi_daemon::testing::provider::upstream::{Upstream, Upstreams};
use psi_daemon::testing::provider::{
    Fetched, InvalidReference, Listed, Persistence, ProviderError, SecretProvider, Source,
};
use psi_daemon::testing::storage::failed_logins::FailedLogins;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The client secret, which no answer may quote.
pub(crate) const CLIENT_SECRET: &str = "canary-client-secret";
/// The value of every secret.
pub(crate) const VALUE: &[u8] = b"the value";

pub(crate) const CONFIG: &str = r#"
[cache]
backend = "tpm"
[providers.infisical]
api_url = "http://127.0.0.1:9"
[providers.infisical.auth]
method = "universal-auth"
client_id = "id"
client_secret = "canary-client-secret"
[providers.infisical.projects.p]
id = "uuid"
environment = "prod"
[workloads.app]
provider = "infisical"
secrets = [{ project = "p", path = "/app" }]
"#;

/// A runtime of the calling thread only: all tasks end with the target.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A directory in memory if possible: fsync is not under test.
pub(crate) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("psi-fuzz-").tempdir_in(place).unwrap()
}

/// The paths of a psid that has all its files in `directory`, and its config.
pub(crate) fn paths(directory: &Path) -> Paths {
    Paths {
        config: directory.join("config.toml"),
        state: directory.join("state"),
        socket: directory.join("psid.sock"),
        users_socket: None,
        run: directory.join("psid"),
        podman_drop_in: directory.join("50-psi.conf"),
        quadlets: directory.join("quadlets"),
    }
}

/// A config with one provider, one project and one workload.
pub(crate) fn config() -> Config {
    Config::parse(CONFIG, Path::new("config.toml")).unwrap()
}

/// Infisical at `api_url`, with these projects, each with its own login.
pub(crate) fn infisical(
    api_url: &str,
    projects: impl IntoIterator<Item = (String, Box<dyn Method>)>,
) -> Infisical {
    let project = |(name, method)| {
        let tokens = token_source(method, "http://127.0.0.1:1", FailedLogins::in_ram());
        (name, Project::new("uuid".into(), "prod".into(), tokens))
    };
    let projects = projects.into_iter().map(project).collect::<HashMap<_, _>>();
    Infisical::new(api_url, None, Duration::from_secs(10), projects)
}

/// A client id with [`CLIENT_SECRET`].
pub(crate) fn universal_auth() -> Box<dyn Method> {
    let client_secret = SecretSource::Config(SecretBytes::new(CLIENT_SECRET.into()));
    Box::new(UniversalAuth { client_id: "id".into(), client_secret })
}

/// The upstreams of [`config`], with a provider that has every secret.
pub(crate) fn upstreams() -> Upstreams {
    let provider = AtHand(infisical("http://127.0.0.1:9", [("p".to_owned(), universal_auth())]));
    let upstream = Arc::new(Upstream::new("infisical", Box::new(provider)));
    Upstreams {
        providers: BTreeMap::from([(upstream.name.clone(), upstream)]),
        workloads: config().workloads,
    }
}

/// A boot of the host.
pub(crate) fn boot() -> BootId {
    BootId(NonZeroU64::MIN)
}

/// Accepts Infisical's references, and returns [`VALUE`] for each.
struct AtHand(Infisical);

#[async_trait]
impl SecretProvider for AtHand {
    fn accept(&self, reference: &Reference) -> Result<CacheKey, InvalidReference> {
        self.0.accept(reference)
    }

    async fn fetch(&self, _: &Reference, _: FetchEpoch) -> Result<Fetched, ProviderError> {
        Ok(SecretBytes::new(VALUE.to_vec()).into())
    }

    fn scope_of(&self, source: &Source) -> Result<ListingScope, InvalidReference> {
        self.0.scope_of(source)
    }

    async fn list(&self, source: &Source, _: &BTreeSet<String>) -> Result<Listed, ProviderError> {
        let scope = self.scope_of(source)?;
        // A fetched value must be listed too, or it would be reported gone.
        let (namespace, path) = (scope.namespace.clone(), scope.path.clone());
        let found = (CacheKey::new(namespace, path, "KEY"), SecretBytes::new(VALUE.into()));
        Ok(Listing { scopes: vec![scope], found: vec![found], ..Listing::default() }.into())
    }

    fn has_namespace(&self, namespace: &Namespace) -> bool {
        self.0.has_namespace(namespace)
    }

    fn persistence(&self) -> Persistence {
        self.0.persistence()
    }

    fn writer(&self) -> Option<&dyn psi_daemon::testing::provider::SecretWriter> {
        None
    }
}
