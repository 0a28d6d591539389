//! Calls one provider of a config by psid's own library: requests are lines of JSON on stdin,
//! answers lines of JSON on stdout, in the same order. It is a process of its own because a token's
//! module belongs to a process.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use psi_common::{Paths, Scope, SecretBytes};
use psi_daemon::testing::cache::FetchEpoch;
use psi_daemon::testing::config::Config;
use psi_daemon::testing::keys::credential::{self, Creds};
use psi_daemon::testing::keys::pkcs11::Token;
use psi_daemon::testing::model::reference::{CacheKey, Namespace, Reference};
use psi_daemon::testing::provider::pkcs11_sealed::Pkcs11Sealed;
use psi_daemon::testing::provider::upstream::Upstream;
use psi_daemon::testing::provider::{ProviderError, SecretProvider, Source};
use psi_daemon::testing::runtime::build::{self, Environment};
use serde_json::{Value, json};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [provider, config, credentials] = args.as_slice() else { panic!("{args:?}") };
    let probe = Probe::new(provider, config.into(), credentials.into());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line.expect("stdin")).expect("JSON");
        let mut answer = runtime.block_on(probe.answer(&request)).unwrap_or_else(|error| error);
        answer["id"] = request["id"].clone();
        std::io::stdout().write_all(format!("{answer}\n").as_bytes()).expect("stdout");
    }
}

struct Probe {
    upstream: Arc<Upstream>,
    token: Option<Token>,
}

impl Probe {
    fn new(provider: &str, config: PathBuf, credentials: PathBuf) -> Self {
        let paths = Paths { config, ..Paths::new(Scope::System) };
        let creds = Creds::Child(credential::Scope::System);
        let environment = Environment::new(paths, Some(credentials), creds);
        let config = Config::read(&environment.paths.config).expect("a good config");
        let token = build::token_config(&config, &environment).map(Token::new);
        let (upstreams, faults) = build::upstreams(&config, &environment, token.clone());
        assert!(faults.is_empty(), "{faults:?}");
        Self { upstream: Arc::clone(&upstreams.providers[provider]), token }
    }

    async fn answer(&self, request: &Value) -> Result<Value, Value> {
        let provider: &dyn SecretProvider = &*self.upstream.provider;
        Ok(match text(&request["do"]).as_str() {
            "accept" => at(&provider.accept(&self.reference(request)).map_err(plain)?),
            "fetch" => {
                let fetched = provider.fetch(&self.reference(request), FetchEpoch::default()).await;
                json!({ "value": hex(&fetched.map_err(of_provider)?.value) })
            }
            "scope" => {
                let scope = provider.scope_of(&source(request)).map_err(plain)?;
                json!({ "namespace": scope.namespace.as_str(), "path": scope.path })
            }
            "list" => {
                let listed = provider.list(&source(request), &BTreeSet::new()).await;
                let found =
                    listed.map_err(of_provider)?.listing.found.into_iter().map(|(place, value)| {
                        let mut found = at(&place);
                        found["value"] = hex(&value).into();
                        found
                    });
                json!({ "found": found.collect::<Vec<_>>() })
            }
            "knows" => {
                let namespace = Namespace::from_stored(text(&request["namespace"]).into());
                json!({ "knows": provider.has_namespace(&namespace) })
            }
            "persistence" => json!({ "persistence": format!("{:?}", provider.persistence()) }),
            "seal" => self.seal(&SecretBytes::new(bytes(&request["secret"]))).await,
            unknown => panic!("{unknown}"),
        })
    }

    /// Makes a secret for a token; other providers get theirs elsewhere.
    async fn seal(&self, secret: &SecretBytes) -> Value {
        let sealer = Pkcs11Sealed::new(self.token.clone().expect("a token"));
        let Ok(reference) = sealer.seal(secret).await else { panic!("it was not sealed") };
        let mut members: Value = serde_json::from_str(&reference).expect("JSON");
        members.as_object_mut().expect("an object").remove("provider");
        json!({ "members": members })
    }

    fn reference(&self, request: &Value) -> Reference {
        let members = request["members"].as_object().expect("members");
        let members: Vec<(&str, String)> =
            members.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        let members = members.iter().map(|(name, value)| (*name, value.as_str()));
        Reference::new(&self.upstream.name, members)
    }
}

fn source(request: &Value) -> Source {
    Source { project: text(&request["project"]), path: text(&request["path"]), recursive: false }
}

fn at(place: &CacheKey) -> Value {
    json!({ "namespace": place.namespace.as_str(), "path": *place.path, "key": *place.key })
}

fn plain(error: impl std::fmt::Display) -> Value {
    json!({ "error": error.to_string() })
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes it by value")]
fn of_provider(error: ProviderError) -> Value {
    let kind = match &error {
        ProviderError::NotFound(_) => "NotFound",
        ProviderError::Denied(_) => "Denied",
        ProviderError::Throttled { .. } => "Throttled",
        ProviderError::Unauthenticated { .. } => "Unauthenticated",
        ProviderError::Unreachable(_) => "Unreachable",
        ProviderError::Failed(_) => "Failed",
        ProviderError::TimedOut(_) => "TimedOut",
        ProviderError::Misbehaved(_) => "Misbehaved",
        ProviderError::Unavailable { .. } => "Unavailable",
    };
    json!({ "error": error.to_string(), "kind": kind })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn hex(secret: &SecretBytes) -> String {
    HEXLOWER.encode(secret.expose_secret())
}

fn bytes(hex: &Value) -> Vec<u8> {
    HEXLOWER.decode(text(hex).as_bytes()).expect("hex")
}
