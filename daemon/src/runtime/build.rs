//! Constructs the runtime from the config. No other file names the concrete key backends and providers.

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
use crate::provider::PKCS11;
use crate::provider::infisical::{
    Infisical, Method, PrivateKey, Project, SecretSource, StaticToken, TlsCert, UniversalAuth,
    token_source,
};
use crate::provider::pkcs11_sealed::{Pkcs11Sealed, SealError};
use crate::provider::upstream::{Upstream, Upstreams};
use crate::refresh::RefreshInterval;
use crate::registry::{Keys, Registry};
use crate::runtime::config_in_force::ConfigInForce;
use crate::runtime::users::find_users;
use crate::runtime::{DegradedReason, Runtime, RuntimeParts};
use crate::storage::boot_id;
use crate::storage::failed_logins::FailedLogins;
use crate::sys::files;

/// The environment of the process.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The paths of the config, the state and the socket.
    pub paths: Paths,
    /// The directory in which systemd delivers the unit's credentials.
    pub credentials: Option<PathBuf>,
    /// How sealed credentials are opened that systemd does not deliver.
    pub creds: Creds,
    /// The refused logins and PINs.
    pub failed_logins: FailedLogins,
    /// The secret of the one identity that a command checks, in place of the one that the config names.
    pub given_secret: Option<Arc<SecretBytes>>,
    /// The token's user PIN, if the caller of a command gives it.
    pub given_pin: Option<Arc<SecretBytes>>,
}

/// The runtime that `config` describes. A fault degrades it; none keeps it from starting.
pub fn runtime(config: &Config, environment: &Environment) -> Runtime {
    let paths = &environment.paths;
    let Components { service, faults, backend, token } = components(config, environment);
    let runtime = Runtime::new(RuntimeParts {
        service: Arc::new(service),
        interval: schedule(&config.cache),
        in_force: ConfigInForce::new(paths.config.clone(), config),
        cache_path: paths.cache_file(),
        backend,
        persists: config.cache.enabled,
        token,
    });
    if let Some(why) = unmigrated_mappings(&paths.state) {
        runtime.degrade(DegradedReason::State, &why);
    }
    runtime.service.readiness().mark_opening();
    report_faults(&runtime, config, &faults);
    runtime
}

/// The degradation if the state directory holds mappings of version 1, which psid does not read before a migration.
fn unmigrated_mappings(state: &Path) -> Option<String> {
    let mappings = files::list_ids(state).ok().filter(|_| !state.join("secrets").exists())?.len();
    (mappings > 0).then(|| {
        let state = state.display();
        let plural = if mappings == 1 { "" } else { "s" };
        format!(
            "{state} has {mappings} mapping{plural} of psi version 1, and nothing is registered; stop psid and run \
             `psid migrate --from psi {state}`"
        )
    })
}

/// The parts of a runtime that work without one.
pub struct Components {
    /// The service, without a key.
    pub service: Service,
    /// The faults of its providers.
    pub faults: Vec<String>,
    /// The key backend.
    pub backend: Option<Box<dyn KeyBackend>>,
    /// The token, which the provider and the key backend share.
    pub token: Option<Token>,
}

/// The components that `config` describes.
pub fn components(config: &Config, environment: &Environment) -> Components {
    let keys = if config.cache.backend.is_some() { Keys::Closed } else { Keys::None };
    let registry = Arc::new(Registry::open(&environment.paths.state, keys));
    let run = &environment.paths.run;
    if let Err(error) = files::create_run_directory(&environment.paths) {
        tracing::debug!("{} cannot be created: {error}", run.display());
    }
    let boot = boot_id::read_or_create(run);
    let cache = Arc::new(Cache::new(policy(&config.cache), boot));
    let token = token_config(config, environment).map(Token::new);
    let (upstreams, faults) = upstreams(config, environment, token.clone());
    Components {
        service: Service::new(registry, cache, upstreams),
        faults,
        backend: backend(&config.cache, environment, token.as_ref()),
        token,
    }
}

/// Applies a reloaded config to a running daemon.
pub async fn follow(runtime: &Runtime, config: &Config, environment: &Environment) {
    let token = runtime.follow_token(token_config(config, environment));
    let (upstreams, faults) = upstreams(config, environment, token);
    let unknown = find_users(&upstreams.workloads, &runtime.service.upstreams().workloads).await;
    runtime.report_unknown_users(&unknown);
    runtime.service.follow(upstreams);
    runtime.service.cache().reconfigure(policy(&config.cache));
    runtime.schedule.send_if_modified(|present| {
        std::mem::replace(present, schedule(&config.cache)) != schedule(&config.cache)
    });
    if config.cache.backend != runtime.backend.as_ref().map(|backend| backend.tag()) {
        tracing::warn!(
            "the key backend of the config changed, which takes effect at a restart; run `systemctl restart psid`"
        );
    }
    if runtime.in_force.follow(config) {
        runtime.record_config("ok");
    }
    follow_seal(runtime, seal_with(&config.cache, environment)).await;
    report_faults(runtime, config, &faults);
    runtime.unlock().await;
}

/// Reports a key in use that is not sealed as the config now demands: the next start would refuse it.
async fn follow_seal(runtime: &Runtime, seal_with: SealWith) {
    let Some(backend) = &runtime.backend else { return };
    match backend.require_seal(seal_with).await {
        Err(why) => runtime.degrade(DegradedReason::Key, &why.to_string()),
        Ok(()) if runtime.keyring().is_some() => runtime.recover(DegradedReason::Key),
        Ok(()) => {}
    }
}

/// Logs the warnings of the config and records the faults of its providers.
fn report_faults(runtime: &Runtime, config: &Config, faults: &[String]) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for objection in &config.objections {
        tracing::warn!("{objection}; `psid check` refuses it");
    }
    runtime.recover(DegradedReason::Provider);
    for fault in faults {
        runtime.degrade(DegradedReason::Provider, fault);
    }
}

fn policy(config: &CacheConfig) -> Policy {
    Policy {
        enabled: config.enabled,
        // A refresh may be late by its jitter; until then an entry is fresh.
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
    environment: &Environment,
    token: Option<&Token>,
) -> Option<Box<dyn KeyBackend>> {
    match config.backend? {
        BackendTag::Tpm => Some(Box::new(tpm(config, environment))),
        // `config` refuses this backend without a token.
        BackendTag::Hsm => Some(Box::new(HsmKey { token: token?.clone() })),
    }
}

/// The tpm key backend.
pub fn tpm(config: &CacheConfig, environment: &Environment) -> TpmKey {
    TpmKey {
        credential: environment.cache_key(),
        state: environment.paths.state.clone(),
        config: environment.paths.config.clone(),
        required_seal: Mutex::new(seal_with(config, environment)),
    }
}

/// What the key must be sealed to: `seal_with`, or the default.
pub fn seal_with(config: &CacheConfig, environment: &Environment) -> SealWith {
    config.seal_with.unwrap_or_else(|| environment.default_seal_with())
}

/// The hsm key backend, if the config names a token; with `retry`, a refused PIN is tried once more.
pub fn hsm(config: &Config, environment: &Environment, retry: bool) -> Option<HsmKey> {
    let token = TokenConfig { retry, ..token_config(config, environment)? };
    Some(HsmKey { token: Token::new(token) })
}

/// The token, if the config names one.
pub fn token_config(config: &Config, environment: &Environment) -> Option<TokenConfig> {
    let hsm = config.pkcs11.as_ref()?;
    let pin = match (&environment.given_pin, &hsm.pin) {
        (Some(pin), _) => PinSource::Given(Arc::clone(pin)),
        (None, Pkcs11Pin::File(path)) => PinSource::File(path.clone()),
        (None, Pkcs11Pin::Credential(name)) => {
            PinSource::Credential(environment.beside_config(name))
        }
    };
    Some(TokenConfig {
        module: hsm.module.clone(),
        token: hsm.token.clone(),
        key: hsm.key.clone(),
        pin,
        failed_logins: environment.failed_logins.clone(),
        retry: false,
    })
}

impl Environment {
    /// The environment of a psid with these paths.
    pub fn new(paths: Paths, credentials: Option<PathBuf>, creds: Creds) -> Self {
        let failed_logins = FailedLogins::open(&paths);
        Self { paths, credentials, creds, failed_logins, given_secret: None, given_pin: None }
    }

    /// What a key must be sealed to if the config has no `seal_with`: a user's key cannot be sealed to the TPM alone.
    pub fn default_seal_with(&self) -> SealWith {
        if self.creds.is_user() { SealWith::Host } else { SealWith::Tpm2 }
    }

    /// The key of the tpm backend.
    pub fn cache_key(&self) -> Credential {
        self.credential(CREDENTIAL, self.paths.sealed_key())
    }

    /// A credential that is delivered by systemd, or sealed in a file beside the config.
    pub fn beside_config(&self, name: &str) -> Credential {
        self.credential(name, self.paths.config.with_file_name(format!("{name}.cred")))
    }

    fn credential(&self, name: &str, sealed: PathBuf) -> Credential {
        let delivered = self.credentials.as_ref().map(|directory| directory.join(name));
        Credential { name: name.to_owned(), delivered, sealed, creds: self.creds.clone() }
    }
}

/// The providers and workloads, and the faults of unusable providers.
pub fn upstreams(
    config: &Config,
    environment: &Environment,
    token: Option<Token>,
) -> (Upstreams, Vec<String>) {
    let mut providers = BTreeMap::new();
    let mut faults = Vec::new();
    if let Some(infisical) = &config.infisical {
        let provider = make_infisical(infisical, environment, token.as_ref());
        faults.extend(provider.fault().map(|why| {
            format!("[providers.infisical] is not usable: {why}; only what is cached is served")
        }));
        let upstream = Upstream::new("infisical", Box::new(provider));
        providers.insert(upstream.name.clone(), Arc::new(upstream));
    }
    if let Some(token) = token {
        let upstream = Upstream::new(PKCS11, Box::new(Pkcs11Sealed::new(token)));
        providers.insert(upstream.name.clone(), Arc::new(upstream));
    }
    (Upstreams { providers, workloads: config.workloads.clone() }, faults)
}

fn make_infisical(
    config: &InfisicalConfig,
    environment: &Environment,
    token: Option<&Token>,
) -> Infisical {
    // Projects of one identity share its access token: each login is counted and rate-limited.
    let failed_logins = FailedLogins::open(&environment.paths);
    let mut identities: Vec<(&AuthConfig, _)> = Vec::new();
    let mut projects = HashMap::new();
    for (name, project) in &config.projects {
        let shared = identities
            .iter()
            .find(|(auth, _)| *auth == &project.auth)
            .map(|(_, tokens)| Arc::clone(tokens));
        let tokens = shared.unwrap_or_else(|| {
            let tokens = token_source(
                method(&project.auth, environment, token),
                &config.api_url,
                failed_logins.clone(),
            );
            identities.push((&project.auth, Arc::clone(&tokens)));
            tokens
        });
        let (id, slug) = (project.id.clone(), project.environment.clone());
        projects.insert(name.clone(), Project::new(id, slug, tokens));
    }
    Infisical::new(&config.api_url, config.ca_cert.as_deref(), config.timeout, projects)
}

fn method(auth: &AuthConfig, environment: &Environment, token: Option<&Token>) -> Box<dyn Method> {
    match auth {
        AuthConfig::Universal { client_id, client_secret } => Box::new(UniversalAuth {
            client_id: client_id.clone(),
            client_secret: secret_source(client_secret, environment),
        }),
        AuthConfig::AwsIam(aws) => Box::new(aws.clone()),
        AuthConfig::Gcp(gcp) => Box::new(gcp.clone()),
        AuthConfig::Azure(azure) => Box::new(azure.clone()),
        AuthConfig::TokenFile(file) => Box::new(file.clone()),
        AuthConfig::AccessToken(secret) => {
            Box::new(StaticToken::new(secret_source(secret, environment)))
        }
        AuthConfig::TlsCert(tls) => Box::new(TlsCert {
            identity_id: tls.identity_id.clone(),
            certificate_file: tls.certificate_file.clone(),
            key: match &tls.key {
                PrivateKeyLocation::Stored(key) => {
                    PrivateKey::Stored(secret_source(key, environment))
                }
                PrivateKeyLocation::OnToken(key) => {
                    PrivateKey::OnToken(token.cloned(), key.clone())
                }
            },
            login_url: tls.login_url.clone(),
        }),
    }
}

fn secret_source(secret: &SecretLocation, environment: &Environment) -> SecretSource {
    if let Some(given) = &environment.given_secret {
        return SecretSource::Given(Arc::clone(given));
    }
    match secret {
        SecretLocation::Credential(name) => {
            SecretSource::Credential(environment.beside_config(name))
        }
        SecretLocation::File(path) => SecretSource::File(path.clone()),
        SecretLocation::Inline(secret) => SecretSource::Config(secret.to_secret()),
    }
}

/// Whether the current config names a token.
pub(super) fn is_token_configured(service: &Service) -> bool {
    service.upstreams().providers.contains_key(PKCS11)
}

/// Encrypts a secret to the token's key and returns its reference.
pub(super) async fn seal_to_token(
    token: Token,
    secret: &SecretBytes,
) -> Result<String, ServiceError> {
    Ok(Pkcs11Sealed::new(token).seal(secret).await?)
}

impl From<SealError> for ServiceError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::TooLarge { secret, max } => Self::Malformed(format!(
                "the reference for a secret of {secret} bytes exceeds podman's size limit; seal at most {max} \
                 bytes, or mount a file instead"
            )),
            SealError::Token(error) => match error.kind {
                TokenErrorKind::Absent | TokenErrorKind::Busy | TokenErrorKind::Broken => {
                    Self::Unavailable(error.to_string())
                }
                TokenErrorKind::Pin | TokenErrorKind::Refused | TokenErrorKind::NoKey => {
                    Self::NoKey(error.to_string())
                }
            },
            error @ (SealError::Crypto(_) | SealError::NotOpened(_) | SealError::OtherValue) => {
                Self::NoKey(format!(
                    "the token does not open the sealed secret, and nothing was stored: {error}; run `psictl hsm \
                     preflight`"
                ))
            }
        }
    }
}
