//! Data that podman stores, as references and literals, and names that are looked up.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use psi_common::{BackendTag, SecretBytes, SecretId};
use psi_daemon::testing::cache::{Cache, Policy};
use psi_daemon::testing::crypto::aead::DataKey;
use psi_daemon::testing::crypto::envelope::WrappedKeyHeader;
use psi_daemon::testing::crypto::keyring::Keyring;
use psi_daemon::testing::lookup::{DataKind, SecretSelector, Service, ServiceError};
use psi_daemon::testing::model::clock::{self, Now};
use psi_daemon::testing::model::principal::Principal;
use psi_daemon::testing::model::reference::Reference;
use psi_daemon::testing::registry::reference_file::{ReferenceFile, ReferenceFileError};
use psi_daemon::testing::registry::{Keys, Registered, Registry};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{Body, assert_words, choice, fixture};

/// 0: a name that is looked up. 1, 2: stored as a literal, as a reference. Anything else: stored
/// with its kind detected.
pub(crate) fn open() -> Body {
    let psi = Psi::new();
    Box::new(move |input| match choice(input) {
        (0, name) => psi.look_up(&String::from_utf8_lossy(name)),
        (1, data) => psi.store(data, DataKind::Literal),
        (2, data) => psi.store(data, DataKind::Reference),
        _ => psi.store(input, DataKind::Auto),
    })
}

struct Psi {
    runtime: Runtime,
    directory: TempDir,
    vault: Arc<Keyring>,
    service: Service,
    id: SecretId,
}

impl Psi {
    fn new() -> Self {
        let directory = fixture::directory();
        let key = DataKey::generate().unwrap();
        let vault = Keyring::new(key, WrappedKeyHeader { tag: BackendTag::Tpm, bytes: Vec::new() });
        let vault = Arc::new(vault);
        let registry = Arc::new(Registry::open(directory.path(), Keys::Open(Arc::clone(&vault))));
        let cache = Arc::new(Cache::new(
            Policy {
                enabled: false,
                fresh_for: Duration::ZERO,
                max_stale: None,
                evict_revoked: true,
            },
            fixture::boot(),
        ));
        let service = Service::new(registry, cache, fixture::upstreams());
        let id = "0123456789abcdef012345678".parse().unwrap();
        Self { runtime: fixture::runtime(), directory, vault, service, id }
    }

    /// The text alone determines the kind; it is the same after a restart; and only an encrypted
    /// literal contains the bytes of one.
    fn store(&self, data: &[u8], kind: DataKind) {
        if data.is_empty() {
            return;
        }
        let stored =
            self.service.store(self.id, SecretBytes::new(data.to_vec()), kind, Principal::Admin);
        let stored = self.runtime.block_on(stored);
        // The file of a reference yields exactly the reference.
        let (data, expected) = match ReferenceFile::parse_any(data) {
            Err(ReferenceFileError::Foreign) => (data, Expected::of(data, kind)),
            _ if kind == DataKind::Literal => (data, Expected::Literal),
            Ok(file) => (file.text, Expected::Reference),
            Err(_) => (data, Expected::Reference),
        };
        match &stored {
            Ok(()) => {
                assert!(!matches!(expected, Expected::Refused), "taken");
                let known = self.service.registry().get(self.id).unwrap();
                expected.assert(&known, data);
                let keys = Keys::Open(Arc::clone(&self.vault));
                let again = Registry::open(self.directory.path(), keys);
                expected.assert(&again.get(self.id).unwrap(), data);
                let file = fs::read(self.file()).unwrap();
                let is_reference = matches!(expected, Expected::Reference);
                // A ciphertext ends in few given bytes by chance.
                if is_reference || data.len() >= 8 {
                    assert_eq!(file.ends_with(data), is_reference);
                }
            }
            Err(error) => {
                assert!(!matches!(expected, Expected::Literal), "refused: {error}");
                assert!(matches!(error, ServiceError::Malformed(_)), "{error:?}");
                assert_words(&error.to_string());
                assert!(!self.file().exists());
            }
        }
        self.forget();
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("secrets").join(self.id.as_str())
    }

    fn forget(&self) {
        let now = clock::now();
        let deleted = self.service.registry().delete(self.id, now, true, Principal::Admin);
        let _ = self.runtime.block_on(deleted).unwrap();
        let hour = Duration::from_secs(3_600);
        self.service.registry().purge(Now { boot: now.boot.after(hour), ..now });
    }

    /// An accepted reference resolves to one key, however often it is looked up.
    fn look_up(&self, name: &str) {
        let now = clock::now();
        let deadline = now.mono + Duration::from_secs(10);
        let wanted = SecretSelector::Name(name.to_owned());
        match self.runtime.block_on(self.service.lookup(&wanted, Principal::Admin, now, deadline)) {
            Ok(value) => assert_eq!(value.secret().expose_secret(), fixture::VALUE),
            Err(error) => {
                let expected =
                    matches!(error, ServiceError::Malformed(_) | ServiceError::NotFound(_));
                assert!(expected, "{error:?}");
                assert_words(&error.to_string());
            }
        }
        if let Some(reference) = Reference::parse(name.as_bytes())
            && let Some(at) = self.service.resolve_key(&reference)
        {
            assert!(at.path.starts_with('/') && !at.path.contains("//"), "{at:?}");
            assert!(!at.key.is_empty(), "{at:?}");
            let members = [("project", "p"), ("path", &at.path), ("key", &at.key)];
            let normal = Reference::new("infisical", members);
            assert_eq!(self.service.resolve_key(&normal), Some(at));
        }
    }
}

/// The kinds by the contract.
enum Expected {
    /// A reference, if the provider accepts it.
    Reference,
    Literal,
    Refused,
    /// A literal, or refused.
    Unclear,
}

fn without_blanks(data: &[u8]) -> &[u8] {
    let valid = data.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let rest = valid.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    &data[valid.len() - rest.len()..]
}

impl Expected {
    fn of(data: &[u8], kind: DataKind) -> Self {
        let text = without_blanks(data);
        let json = serde_json::from_slice::<Value>(text);
        let has_word = || String::from_utf8_lossy(text).to_lowercase().contains("provider");
        let is_utf16 = data.starts_with(&[0xff, 0xfe]) || data.starts_with(&[0xfe, 0xff]);
        match kind {
            DataKind::Literal => Self::Literal,
            _ if json.as_ref().is_ok_and(|json| json["provider"] == "infisical") => Self::Reference,
            DataKind::Reference => Self::Refused,
            DataKind::Auto if is_utf16 => Self::Unclear,
            DataKind::Auto if !text.starts_with(b"{") => Self::Literal,
            DataKind::Auto => match json {
                Ok(json) if json["provider"].is_string() => Self::Refused,
                Err(_) if has_word() => Self::Unclear,
                _ => Self::Literal,
            },
        }
    }

    fn assert(&self, known: &Registered, data: &[u8]) {
        match (self, known) {
            (Self::Reference, Registered::Reference(reference)) => {
                assert_eq!(Reference::parse(data).as_ref(), Some(&***reference));
            }
            (Self::Literal | Self::Unclear, Registered::Literal(value)) => {
                assert_eq!(value.expose_secret(), data);
            }
            (_, Registered::Invalid(why) | Registered::Unreadable(why)) => {
                panic!("unusable: {why}")
            }
            _ => panic!("a literal was taken for a reference, or a reference for a literal"),
        }
    }
}
