//! Calls a key backend or a token by psid's own library: requests are lines of JSON on stdin,
//! answers lines of JSON on stdout. It is a process of its own because a module and its variables
//! belong to a process, and a probe can be restarted.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use data_encoding::HEXLOWER;
use psi_common::{BackendTag, Paths, Scope as UserScope, SecretBytes};
use psi_daemon::testing::crypto::aead::DataKey;
use psi_daemon::testing::crypto::envelope::{AadContext, WrappedKeyHeader};
use psi_daemon::testing::crypto::keyring::Keyring;
use psi_daemon::testing::keys::credential::{Credential, Creds, Scope, SealOptions};
use psi_daemon::testing::keys::pkcs11::{
    KeyChoice, PinSource, Token, TokenChoice, TokenConfig, TokenError, TokenState,
};
use psi_daemon::testing::keys::{HsmKey, KeyBackend, KeyError, LoadedKey, SealWith, TpmKey};
use psi_daemon::testing::registry::reference_file;
use psi_daemon::testing::storage::failed_logins::FailedLogins;
use serde_json::{Value, json};

fn main() {
    let setup = std::env::args().nth(1).expect("the setup, as JSON");
    let setup: Value = serde_json::from_str(&setup).expect("JSON");
    let probe = Probe::new(&setup);
    // Threads beside the reading one: requests run in parallel, as in psid.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let mut running = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line.expect("stdin")).expect("JSON");
        let probe = probe.clone();
        let answering = runtime.spawn(async move {
            let mut answer = probe.answer(&request).await.unwrap_or_else(|error| error);
            answer["id"] = request["id"].clone();
            let line = format!("{answer}\n");
            std::io::stdout().lock().write_all(line.as_bytes()).expect("stdout");
        });
        running.push(answering);
    }
    runtime.block_on(async {
        for answering in running {
            answering.await.expect("an answer");
        }
    });
}

/// A key backend, and the tokens of the setup; each has its own handle and thread.
#[derive(Clone)]
struct Probe {
    setup: Value,
    tokens: Vec<Token>,
}

impl Probe {
    fn new(setup: &Value) -> Self {
        let tokens = setup["tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self {
            setup: setup.clone(),
            tokens: tokens.iter().map(|token| Token::new(token_config(token))).collect(),
        }
    }

    fn backend(&self) -> Box<dyn KeyBackend> {
        match self.tokens.first() {
            Some(token) => Box::new(HsmKey { token: token.clone() }),
            None => Box::new(TpmKey {
                credential: Credential {
                    name: "psi-cache-key".into(),
                    delivered: None,
                    sealed: path(&self.setup["sealed"]),
                    creds: Creds::Child(Scope::System),
                },
                state: path(&self.setup["sealed"]).with_file_name(""),
                config: "/etc/psi/config.toml".into(),
                required_seal: SealWith::Tpm2.into(),
            }),
        }
    }

    async fn answer(&self, request: &Value) -> Result<Value, Value> {
        match text(&request["do"]).as_str() {
            "load" => {
                let parts: Vec<_> =
                    request["parts"].as_array().expect("parts").iter().map(bytes).collect();
                let keys = self.backend().load(&parts).await.map_err(|error| of_key(&error))?;
                Ok(json!({ "keys": keys.iter().map(key_to_json).collect::<Vec<_>>() }))
            }
            "keep" => {
                let key = SecretBytes::new(bytes(&request["key"]));
                let key = DataKey::from_secret(&key).expect("32 bytes");
                // With a TPM, the quickest way to seal.
                let seal = SealOptions { with_key: "tpm2".into(), tpm2_pcrs: "7".into() };
                self.backend()
                    .store(key, Some(&seal))
                    .await
                    .map(|stored| key_to_json(&stored))
                    .map_err(|error| of_key(&error))
            }
            "commit" => {
                self.backend().commit().await.map(|()| json!({})).map_err(|error| of_key(&error))
            }
            "forge" => Ok(forge(request)),
            "encode_reference" => Ok(encode_reference(request)),
            "seal_kind" => Ok(seal_kind(request)),
            _ => self.use_token(request).await,
        }
    }

    async fn use_token(&self, request: &Value) -> Result<Value, Value> {
        let which = usize::try_from(request["token"].as_u64().unwrap_or(0)).expect("an index");
        let token = match request["within_ms"].as_u64() {
            Some(limit) => self.tokens[which].with_timeout(Duration::from_millis(limit)),
            None => self.tokens[which].clone(),
        };
        let done = match text(&request["do"]).as_str() {
            "wrap" => {
                let public = token.public_key().await.map_err(|error| of_token(&error))?;
                let wrapped = public.wrap(&SecretBytes::new(bytes(&request["key"])));
                json!({ "wrapped": hex(&wrapped.expect("a short key")) })
            }
            "unwrap" => {
                let key = token
                    .unwrap_key(&bytes(&request["wrapped"]))
                    .await
                    .map_err(|error| of_token(&error))?;
                json!({ "key": hex(key.expose_secret()) })
            }
            "sign" => {
                let message = bytes(&request["message"]);
                let signature = token.sign(&message).await.map_err(|error| of_token(&error))?;
                let public = token.public_key().await.map_err(|error| of_token(&error))?;
                json!({
                    "verifies": public.verify(&message, &signature),
                    "bits": public.bits(),
                    "signature": hex(&signature),
                })
            }
            "describe" => {
                let described = token.describe().await.map_err(|error| of_token(&error))?;
                let key = described.key.as_ref().map_err(of_token);
                json!({ "token": format!("{described:?}"), "key": match key {
                    Ok(key) => json!(format!("{key:?}")),
                    Err(error) => error,
                } })
            }
            "state" => match token.state() {
                TokenState::Unused => json!({ "state": "unused" }),
                TokenState::Ready => json!({ "state": "ready" }),
                TokenState::Busy { call, .. } => json!({ "state": "busy", "call": call }),
                TokenState::Away { why, .. } => json!({ "state": "away", "why": why }),
                TokenState::PinRefused { why } => json!({ "state": "pin refused", "why": why }),
            },
            "reload" => {
                token.follow(token_config(&self.setup["tokens"][which]));
                json!({})
            }
            unknown => panic!("{unknown}"),
        };
        Ok(done)
    }
}

/// Encrypts a file of the tpm backend again, under the same data key, as one of the hsm backend: an
/// attacker who writes to the disk can do the same.
fn forge(request: &Value) -> Value {
    let keyring = |tag, bytes| {
        let key = SecretBytes::new(self::bytes(&request["key"]));
        Keyring::new(DataKey::from_secret(&key).expect("32 bytes"), WrappedKeyHeader { tag, bytes })
    };
    let id = request["literal"].as_str();
    let content = id.map_or(AadContext::Cache, AadContext::Literal);
    let inside = keyring(BackendTag::Tpm, Vec::new()).open(content, &bytes(&request["file"]));
    let forged = keyring(BackendTag::Hsm, bytes(&request["part"]));
    let file = forged.seal(content, &inside.expect("a file of the tpm backend")).expect("a nonce");
    json!({ "file": hex(&file) })
}

/// The file of a registered reference.
fn encode_reference(request: &Value) -> Value {
    let file =
        reference_file::encode(&text(&request["secret"]), None, &bytes(&request["reference"]));
    json!({ "file": hex(&file) })
}

/// The kind of key that seals a systemd credential, and the values of `seal_with` that accept it.
fn seal_kind(request: &Value) -> Value {
    let seal = SealOptions::of(&bytes(&request["credential"]));
    let all = [SealWith::Any, SealWith::Host, SealWith::Tpm2];
    let accepted = all.iter().filter(|demand| demand.accepts(seal.as_ref()));
    json!({
        "with_key": seal.as_ref().map(|seal| &seal.with_key),
        "meets": seal.as_ref().map(|seal| format!("{:?}", SealWith::met_by(seal))),
        "accepted_by": accepted.map(|demand| format!("{demand:?}")).collect::<Vec<_>>(),
    })
}

fn token_config(setup: &Value) -> TokenConfig {
    TokenConfig {
        module: path(&setup["module"]),
        token: match setup["slot"].as_u64() {
            Some(slot) => TokenChoice::Slot(slot),
            None => TokenChoice::Label(text(&setup["label"])),
        },
        key: match &setup["key_id"] {
            Value::String(_) => KeyChoice::Id(bytes(&setup["key_id"])),
            _ => KeyChoice::Label(setup["key_label"].as_str().unwrap_or("podman-secrets").into()),
        },
        pin: PinSource::File(path(&setup["pin_file"])),
        failed_logins: failed_logins(setup),
        retry: setup["retry"] == true,
    }
}

/// The run directory of a token; all handles of this process share it.
fn failed_logins(setup: &Value) -> FailedLogins {
    let Some(run) = setup["run"].as_str() else { return FailedLogins::in_ram() };
    FailedLogins::open(&Paths { run: run.into(), ..Paths::new(UserScope::System) })
}

fn key_to_json(key: &LoadedKey) -> Value {
    json!({ "key": hex(key.key.to_secret().expose_secret()), "part": hex(&key.header) })
}

fn of_key(error: &KeyError) -> Value {
    json!({ "error": error.to_string(), "what": error.problem.what, "remedy": error.problem.remedy })
}

fn of_token(error: &TokenError) -> Value {
    json!({ "error": error.to_string(), "kind": format!("{:?}", error.kind) })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn path(value: &Value) -> PathBuf {
    text(value).into()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn bytes(hex: &Value) -> Vec<u8> {
    HEXLOWER.decode(text(hex).as_bytes()).expect("hex")
}
