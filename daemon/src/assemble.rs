//! From config to daemon: the only file that names concrete key backends and providers.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use psi_common::{BackendTag, Paths};

use crate::boot;
use crate::cache::{Cache, Policy};
use crate::config::{AuthConfig, CacheConfig, ClientSecret, Config, HsmPin, InfisicalConfig};
use crate::credential::{Credential, Creds};
use crate::daemon::{Daemon, Topic};
use crate::files;
use crate::key::{CREDENTIAL, HsmKey, KeyBackend, TpmKey};
use crate::pkcs11::{PinSource, Token, TokenConfig};
use crate::provider::infisical::{Infisical, Project, SecretSource, UniversalAuth, token_source};
use crate::refresh::Schedule;
use crate::registry::Registry;
use crate::service::Service;
use crate::shared_cache::SharedCache;
use crate::upstream::{Upstream, Upstreams};

/// What the daemon takes from its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where things are.
    pub paths: Paths,
    /// Where systemd put the unit's credentials.
    pub credentials: Option<PathBuf>,
    /// Who opens those that psid must open itself.
    pub creds: Creds,
}

/// Makes the daemon that `config` describes. Nothing that is broken keeps it from starting.
pub fn assemble(config: &Config, surroundings: &Surroundings) -> Daemon {
    let paths = &surroundings.paths;
    let state = files::make_private_folder(&paths.state);
    let registry = Arc::new(Registry::open(&paths.state, None));
    let boot = boot::of(paths.socket.parent().unwrap_or(&paths.state));
    let cache = Arc::new(SharedCache::new(Cache::new(policy(&config.cache), boot)));
    let token = token_config(config, surroundings).map(Token::new);
    let (upstreams, faults) = upstreams(config, surroundings);
    let daemon = Daemon::new(
        Arc::new(Service::new(registry, cache, upstreams)),
        schedule(&config.cache),
        config.access.clone(),
        paths.cache_file(),
        backend(&config.cache, surroundings, token.as_ref()),
        config.cache.enabled,
        token,
    );
    if let Err(error) = state {
        let why = format!(
            "the state folder {} cannot be made: {error}; nothing is persisted",
            paths.state.display()
        );
        daemon.degrade(Topic::State, &why);
    }
    // Before the first lookup can come.
    daemon.service.gate.close();
    say(&daemon, config, &faults);
    daemon
}

/// Makes a running daemon follow a config that was read again.
pub async fn follow(daemon: &Daemon, config: &Config, surroundings: &Surroundings) {
    daemon.follow_token(token_config(config, surroundings));
    let (upstreams, faults) = upstreams(config, surroundings);
    daemon.service.follow(upstreams);
    daemon.service.cache.change_in_ram(|cache| cache.follow(policy(&config.cache)));
    daemon.schedule.send_if_modified(|present| {
        std::mem::replace(present, schedule(&config.cache)) != schedule(&config.cache)
    });
    if config.cache.backend != daemon.backend.as_ref().map(|backend| backend.tag()) {
        tracing::warn!("another key backend takes a restart; the present one stays until then");
    }
    if let Err(error) = daemon.follow_access(config.access.clone()) {
        tracing::warn!("the socket keeps its mode: {error}");
    }
    daemon.recover(Topic::Config);
    say(daemon, config, &faults);
    daemon.unlock().await;
}

fn say(daemon: &Daemon, config: &Config, faults: &[String]) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    daemon.recover(Topic::Provider);
    for fault in faults {
        daemon.degrade(Topic::Provider, fault);
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

fn schedule(config: &CacheConfig) -> Schedule {
    Schedule { interval: config.refresh_interval, jitter: config.refresh_jitter }
}

fn backend(
    config: &CacheConfig,
    surroundings: &Surroundings,
    token: Option<&Token>,
) -> Option<Box<dyn KeyBackend>> {
    match config.backend? {
        BackendTag::Tpm => Some(Box::new(tpm(surroundings))),
        // The config was refused if it names no token.
        BackendTag::Hsm => Some(Box::new(HsmKey { token: token?.clone() })),
    }
}

/// The tpm key backend.
pub fn tpm(surroundings: &Surroundings) -> TpmKey {
    TpmKey { credential: surroundings.credential(CREDENTIAL, surroundings.paths.sealed_key()) }
}

/// The hsm key backend, when the config names a token.
pub fn hsm(config: &Config, surroundings: &Surroundings) -> Option<HsmKey> {
    Some(HsmKey { token: Token::new(token_config(config, surroundings)?) })
}

/// Where the HSM is, when the config names one.
fn token_config(config: &Config, surroundings: &Surroundings) -> Option<TokenConfig> {
    let hsm = config.hsm.as_ref()?;
    let pin = match &hsm.pin {
        HsmPin::File(path) => PinSource::File(path.clone()),
        HsmPin::Credential(name) => PinSource::Credential(surroundings.beside_config(name)),
    };
    Some(TokenConfig {
        module: hsm.module.clone(),
        token: hsm.token.clone(),
        key: hsm.key.clone(),
        pin,
    })
}

impl Surroundings {
    /// A credential that, unless it is delivered, lies sealed beside the config.
    fn beside_config(&self, name: &str) -> Credential {
        self.credential(name, self.paths.config.with_file_name(format!("{name}.cred")))
    }

    fn credential(&self, name: &str, sealed: PathBuf) -> Credential {
        let delivered = self.credentials.as_ref().map(|folder| folder.join(name));
        Credential { name: name.to_owned(), delivered, sealed, creds: self.creds.clone() }
    }
}

/// The providers and workloads, and what is wrong with those that are missing.
fn upstreams(config: &Config, surroundings: &Surroundings) -> (Upstreams, Vec<String>) {
    let mut providers = BTreeMap::new();
    let mut faults = Vec::new();
    if let Some(infisical) = &config.infisical {
        let provider = make_infisical(infisical, surroundings);
        faults.extend(provider.fault().map(|why| {
            format!("[providers.infisical] is not usable: {why}; only what is cached is served")
        }));
        let upstream = Upstream::new("infisical", Box::new(provider));
        providers.insert(upstream.name.clone(), Arc::new(upstream));
    }
    (Upstreams { providers, workloads: config.workloads.clone() }, faults)
}

fn make_infisical(config: &InfisicalConfig, surroundings: &Surroundings) -> Infisical {
    // Projects of one identity share its token: each login is counted and rate-limited.
    let mut identities: Vec<(&AuthConfig, _)> = Vec::new();
    let mut projects = HashMap::new();
    for (name, project) in &config.projects {
        let known = identities
            .iter()
            .find(|(auth, _)| *auth == &project.auth)
            .map(|(_, tokens)| Arc::clone(tokens));
        let tokens = known.unwrap_or_else(|| {
            let tokens = token_source(UniversalAuth {
                client_id: project.auth.client_id.clone(),
                client_secret: secret_source(&project.auth.client_secret, surroundings),
            });
            identities.push((&project.auth, Arc::clone(&tokens)));
            tokens
        });
        let (id, environment) = (project.id.clone(), project.environment.clone());
        projects.insert(name.clone(), Project { id, environment, tokens });
    }
    Infisical::new(&config.api_url, config.ca_cert.as_deref(), config.timeout, projects)
}

fn secret_source(secret: &ClientSecret, surroundings: &Surroundings) -> SecretSource {
    match secret {
        ClientSecret::Credential(name) => {
            SecretSource::Credential(surroundings.beside_config(name))
        }
        ClientSecret::File(path) => SecretSource::File(path.clone()),
        ClientSecret::Inline(secret) => SecretSource::Config(secret.to_secret()),
    }
}
