//! From config to daemon: the only file that names concrete key backends and providers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use psi_common::{BackendTag, Paths, SecretBytes};

use crate::cache::{Cache, Policy};
use crate::config::{
    AuthConfig, CacheConfig, Config, InfisicalConfig, Pkcs11Pin, PrivateKeyLocation, SecretLocation,
};
use crate::keys::credential::{Credential, Creds};
use crate::keys::pkcs11::{PinSource, Token, TokenConfig, TokenErrorKind};
use crate::keys::{CREDENTIAL, HsmKey, KeyBackend, SealWith, TpmKey};
use crate::lookup::{Service, ServiceError};
use crate::provider::infisical::{
    Infisical, Method, PrivateKey, Project, SecretSource, StaticToken, TlsCert, UniversalAuth,
    token_source,
};
use crate::provider::pkcs11_sealed::{self, Pkcs11Sealed, SealError};
use crate::provider::upstream::{Upstream, Upstreams};
use crate::refresh::RefreshInterval;
use crate::registry::{Keys, Registry};
use crate::runtime::config_in_force::ConfigInForce;
use crate::runtime::{DegradedReason, Runtime, RuntimeParts};
use crate::storage::boot_id;
use crate::storage::failed_logins::FailedLogins;
use crate::sys::files;

/// What the daemon takes from its surroundings.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Where things are.
    pub paths: Paths,
    /// Where systemd put the unit's credentials.
    pub credentials: Option<PathBuf>,
    /// Who opens those that psid must open itself.
    pub creds: Creds,
    /// Which logins and PINs were refused.
    pub failed_logins: FailedLogins,
    /// The secret of the one identity that a command checks, in place of the one that the config names.
    pub given_secret: Option<Arc<SecretBytes>>,
}

/// Makes the daemon that `config` describes. Nothing that is broken keeps it from starting.
pub fn assemble(config: &Config, surroundings: &Environment) -> Runtime {
    let paths = &surroundings.paths;
    let Components { service, faults, backend, token } = parts(config, surroundings);
    let daemon = Runtime::new(RuntimeParts {
        service: Arc::new(service),
        interval: schedule(&config.cache),
        in_force: ConfigInForce::new(paths.config.clone(), config),
        access: config.access.clone(),
        cache_path: paths.cache_file(),
        backend,
        persists: config.cache.enabled,
        token,
    });
    if let Some(why) = left_by_the_python_psi(&paths.state) {
        daemon.degrade(DegradedReason::State, &why);
    }
    daemon.service.readiness.mark_opening();
    say(&daemon, config, &faults);
    daemon
}

/// Mappings in the state folder itself are the Python PSI's, and mean nothing here until they are taken over.
fn left_by_the_python_psi(state: &Path) -> Option<String> {
    let left = files::list_ids(state).ok().filter(|_| !state.join("secrets").exists())?.len();
    (left > 0).then(|| {
        let at = state.display();
        format!(
            "{at} has {left} mappings of the Python PSI, and nothing is registered; stop psid and run \
             `psid migrate --from psi {at}`"
        )
    })
}

/// What works without a daemon around it.
pub struct Components {
    /// The service; it has no key yet.
    pub service: Service,
    /// What is wrong with its providers.
    pub faults: Vec<String>,
    /// The key backend.
    pub backend: Option<Box<dyn KeyBackend>>,
    /// The token, which they share.
    pub token: Option<Token>,
}

/// The parts that `config` describes.
pub fn parts(config: &Config, surroundings: &Environment) -> Components {
    let keys = if config.cache.backend.is_some() { Keys::Closed } else { Keys::None };
    let registry = Arc::new(Registry::open(&surroundings.paths.state, keys));
    let run = &surroundings.paths.run;
    if let Err(error) = files::create_run_directory(&surroundings.paths) {
        tracing::debug!("{} cannot be made: {error}", run.display());
    }
    let boot = boot_id::read_or_create(run);
    let cache = Arc::new(Cache::new(policy(&config.cache), boot));
    let token = token_config(config, surroundings).map(Token::new);
    let (upstreams, faults) = upstreams(config, surroundings, token.clone());
    Components {
        service: Service::new(registry, cache, upstreams),
        faults,
        backend: backend(&config.cache, surroundings, token.as_ref()),
        token,
    }
}

/// Makes a running daemon follow a config that was read again.
pub async fn follow(daemon: &Runtime, config: &Config, surroundings: &Environment) {
    let token = daemon.follow_token(token_config(config, surroundings));
    let (upstreams, faults) = upstreams(config, surroundings, token);
    daemon.service.follow(upstreams);
    daemon.service.cache.reconfigure(policy(&config.cache));
    daemon.schedule.send_if_modified(|present| {
        std::mem::replace(present, schedule(&config.cache)) != schedule(&config.cache)
    });
    if config.cache.backend != daemon.backend.as_ref().map(|backend| backend.tag()) {
        tracing::warn!("another key backend takes a restart; the present one stays until then");
    }
    if let Err(error) = daemon.follow_access(config.access.clone()) {
        tracing::warn!("the socket keeps its mode: {error}");
    }
    daemon.in_force.follow(config);
    follow_seal(daemon, seal_with(&config.cache, surroundings)).await;
    say(daemon, config, &faults);
    daemon.unlock().await;
}

/// A key in use that is not sealed as the config demands now is named; it is refused at the next start.
async fn follow_seal(daemon: &Runtime, seal_with: SealWith) {
    let Some(backend) = &daemon.backend else { return };
    match backend.follow(seal_with).await {
        Err(why) => daemon.degrade(DegradedReason::Key, &why.to_string()),
        Ok(()) if daemon.keyring().is_some() => daemon.recover(DegradedReason::Key),
        Ok(()) => {}
    }
}

fn say(daemon: &Runtime, config: &Config, faults: &[String]) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for objection in &config.objections {
        tracing::warn!("{objection}; `psid check` refuses it");
    }
    daemon.recover(DegradedReason::Provider);
    for fault in faults {
        daemon.degrade(DegradedReason::Provider, fault);
    }
}

fn policy(config: &CacheConfig) -> Policy {
    Policy {
        enabled: config.enabled,
        // A refresh may come as late as its jitter says; until then its entries are no reason to ask.
        fresh_for: config.refresh_interval + config.refresh_jitter,
        max_stale: config.max_stale,
        evict_revoked: config.evict_revoked,
    }
}

fn schedule(config: &CacheConfig) -> RefreshInterval {
    RefreshInterval { interval: config.refresh_interval, max_jitter: config.refresh_jitter }
}

fn backend(
    config: &CacheConfig,
    surroundings: &Environment,
    token: Option<&Token>,
) -> Option<Box<dyn KeyBackend>> {
    match config.backend? {
        BackendTag::Tpm => Some(Box::new(tpm(config, surroundings))),
        // The config was refused if it names no token.
        BackendTag::Hsm => Some(Box::new(HsmKey { token: token?.clone() })),
    }
}

/// The tpm key backend.
pub fn tpm(config: &CacheConfig, surroundings: &Environment) -> TpmKey {
    TpmKey {
        credential: surroundings.cache_key(),
        state: surroundings.paths.state.clone(),
        config: surroundings.paths.config.clone(),
        required_seal: Mutex::new(seal_with(config, surroundings)),
    }
}

/// What the key must be sealed to.
pub fn seal_with(config: &CacheConfig, surroundings: &Environment) -> SealWith {
    config.seal_with.unwrap_or_else(|| surroundings.default_seal_with())
}

/// The hsm key backend, when the config names a token; `retry` tries a PIN once more that was refused.
pub fn hsm(config: &Config, surroundings: &Environment, retry: bool) -> Option<HsmKey> {
    let token = TokenConfig { retry, ..token_config(config, surroundings)? };
    Some(HsmKey { token: Token::new(token) })
}

/// Where the HSM is, when the config names one.
pub fn token_config(config: &Config, surroundings: &Environment) -> Option<TokenConfig> {
    let hsm = config.pkcs11.as_ref()?;
    let pin = match &hsm.pin {
        Pkcs11Pin::File(path) => PinSource::File(path.clone()),
        Pkcs11Pin::Credential(name) => PinSource::Credential(surroundings.beside_config(name)),
    };
    Some(TokenConfig {
        module: hsm.module.clone(),
        token: hsm.token.clone(),
        key: hsm.key.clone(),
        pin,
        failed_logins: surroundings.failed_logins.clone(),
        retry: false,
    })
}

impl Environment {
    /// Those of a psid with these paths.
    pub fn new(paths: Paths, credentials: Option<PathBuf>, creds: Creds) -> Self {
        let failed_logins = FailedLogins::open(&paths);
        Self { paths, credentials, creds, failed_logins, given_secret: None }
    }

    /// What a key must be sealed to where the config does not say: a user's cannot be sealed to the TPM alone.
    pub fn default_seal_with(&self) -> SealWith {
        if self.creds.is_user() { SealWith::Host } else { SealWith::Tpm2 }
    }

    /// The key of the tpm backend.
    pub fn cache_key(&self) -> Credential {
        self.credential(CREDENTIAL, self.paths.sealed_key())
    }

    /// A credential that, unless it is delivered, lies sealed beside the config.
    pub fn beside_config(&self, name: &str) -> Credential {
        self.credential(name, self.paths.config.with_file_name(format!("{name}.cred")))
    }

    fn credential(&self, name: &str, sealed: PathBuf) -> Credential {
        let delivered = self.credentials.as_ref().map(|folder| folder.join(name));
        Credential { name: name.to_owned(), delivered, sealed, creds: self.creds.clone() }
    }
}

/// The providers and workloads, and what is wrong with those that are missing.
pub fn upstreams(
    config: &Config,
    surroundings: &Environment,
    token: Option<Token>,
) -> (Upstreams, Vec<String>) {
    let mut providers = BTreeMap::new();
    let mut faults = Vec::new();
    if let Some(infisical) = &config.infisical {
        let provider = make_infisical(infisical, surroundings, token.as_ref());
        faults.extend(provider.fault().map(|why| {
            format!("[providers.infisical] is not usable: {why}; only what is cached is served")
        }));
        let upstream = Upstream::new("infisical", Box::new(provider));
        providers.insert(upstream.name.clone(), Arc::new(upstream));
    }
    if let Some(token) = token {
        let upstream = Upstream::new(pkcs11_sealed::NAME, Box::new(Pkcs11Sealed::new(token)));
        providers.insert(upstream.name.clone(), Arc::new(upstream));
    }
    (Upstreams { providers, workloads: config.workloads.clone() }, faults)
}

fn make_infisical(
    config: &InfisicalConfig,
    surroundings: &Environment,
    token: Option<&Token>,
) -> Infisical {
    // Projects of one identity share its token: each login is counted and rate-limited.
    let failed_logins = FailedLogins::open(&surroundings.paths);
    let mut identities: Vec<(&AuthConfig, _)> = Vec::new();
    let mut projects = HashMap::new();
    for (name, project) in &config.projects {
        let known = identities
            .iter()
            .find(|(auth, _)| *auth == &project.auth)
            .map(|(_, tokens)| Arc::clone(tokens));
        let tokens = known.unwrap_or_else(|| {
            let tokens = token_source(
                method(&project.auth, surroundings, token),
                &config.api_url,
                failed_logins.clone(),
            );
            identities.push((&project.auth, Arc::clone(&tokens)));
            tokens
        });
        let (id, environment) = (project.id.clone(), project.environment.clone());
        projects.insert(name.clone(), Project::new(id, environment, tokens));
    }
    Infisical::new(&config.api_url, config.ca_cert.as_deref(), config.timeout, projects)
}

fn method(auth: &AuthConfig, surroundings: &Environment, token: Option<&Token>) -> Box<dyn Method> {
    match auth {
        AuthConfig::Universal { client_id, client_secret } => Box::new(UniversalAuth {
            client_id: client_id.clone(),
            client_secret: secret_source(client_secret, surroundings),
        }),
        AuthConfig::AwsIam(aws) => Box::new(aws.clone()),
        AuthConfig::Gcp(gcp) => Box::new(gcp.clone()),
        AuthConfig::Azure(azure) => Box::new(azure.clone()),
        AuthConfig::TokenFile(file) => Box::new(file.clone()),
        AuthConfig::AccessToken(secret) => {
            Box::new(StaticToken { token: secret_source(secret, surroundings) })
        }
        AuthConfig::TlsCert(tls) => Box::new(TlsCert {
            identity_id: tls.identity_id.clone(),
            certificate_file: tls.certificate_file.clone(),
            key: match &tls.key {
                PrivateKeyLocation::Stored(key) => {
                    PrivateKey::Stored(secret_source(key, surroundings))
                }
                PrivateKeyLocation::OnToken(key) => {
                    PrivateKey::OnToken(token.cloned(), key.clone())
                }
            },
            login_url: tls.login_url.clone(),
        }),
    }
}

fn secret_source(secret: &SecretLocation, surroundings: &Environment) -> SecretSource {
    if let Some(given) = &surroundings.given_secret {
        return SecretSource::Given(Arc::clone(given));
    }
    match secret {
        SecretLocation::Credential(name) => {
            SecretSource::Credential(surroundings.beside_config(name))
        }
        SecretLocation::File(path) => SecretSource::File(path.clone()),
        SecretLocation::Inline(secret) => SecretSource::Config(secret.to_secret()),
    }
}

/// Whether the present config names a token.
pub(super) fn is_token_configured(service: &Service) -> bool {
    service.upstreams().providers.contains_key(pkcs11_sealed::NAME)
}

/// Encrypts a secret to the token's key; its reference.
pub(super) async fn seal_to_token(
    token: Token,
    secret: &SecretBytes,
) -> Result<String, ServiceError> {
    Ok(Pkcs11Sealed::new(token).seal(secret).await?)
}

impl From<SealError> for ServiceError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::TooLarge { secret, room } => Self::Malformed(format!(
                "a secret of {secret} bytes makes a reference that is longer than podman takes; seal at most \
                 {room} bytes, or mount a file instead"
            )),
            SealError::Token(error) => match error.kind {
                TokenErrorKind::Absent | TokenErrorKind::Busy | TokenErrorKind::Broken => {
                    Self::Unavailable(error.to_string())
                }
                TokenErrorKind::Pin | TokenErrorKind::Refused | TokenErrorKind::NoKey => {
                    Self::NoKey(error.to_string())
                }
            },
            SealError::Unproven(why) => Self::NoKey(format!(
                "what was sealed does not open again: {why}; nothing was stored, see `psictl hsm preflight`"
            )),
        }
    }
}
