mod deletion;
mod owners;

use std::fs;

use super::trash::RESTORABLE;
use super::*;
use crate::crypto::aead::DataKey;
use crate::crypto::envelope::WrappedKeyHeader;
use crate::model::clock::Now;
use crate::model::clock::{BootInstant, Timestamp};
use psi_common::BackendTag;

const ID: &str = "0123456789abcdef012345678";
const OTHER: &str = "876543210fedcba9876543210";

fn keyring() -> Arc<Keyring> {
    let key = DataKey::from_secret(&SecretBytes::new(vec![1; 32])).unwrap();
    Arc::new(Keyring::new(key, WrappedKeyHeader { tag: BackendTag::Tpm, bytes: Vec::new() }))
}

fn open(state: &Path) -> Arc<Registry> {
    open_with(state, Keys::Open(keyring()))
}

fn open_with(state: &Path, keys: Keys) -> Arc<Registry> {
    Arc::new(Registry::open(state, keys))
}

fn literal(text: &str) -> Registration {
    Registration::Literal(SecretBytes::new(text.into()))
}

fn reference(text: &str) -> Registration {
    Registration::Reference(
        Reference::parse(text.as_bytes()).unwrap(),
        SecretBytes::new(text.into()),
    )
}

fn value(registry: &Registry, id: &str) -> Option<Vec<u8>> {
    match registry.get(id.parse().unwrap())? {
        Registered::Literal(value) => Some(value.expose_secret().to_vec()),
        Registered::Reference(reference) => Some(reference.to_string().into_bytes()),
        Registered::Invalid(why) | Registered::Unreadable(why) => panic!("{why}"),
    }
}

fn time(span: Duration) -> Now {
    let wall = Timestamp::from_millis(1_000_000_000).after(span);
    Now {
        wall,
        boot: BootInstant::at(Duration::from_secs(1_000)).after(span),
        mono: Instant::now(),
    }
}

/// Deletes as podman does.
async fn delete(registry: &Arc<Registry>, id: SecretId, at: Now) -> Result<bool, RegistryError> {
    registry.delete(id, at, false, Principal::Admin).await
}

#[tokio::test]
async fn literal_is_sealed_and_read_again() {
    let state = tempfile::tempdir().unwrap();
    open(state.path())
        .store(ID.parse().unwrap(), literal("hunter2"), Principal::Admin)
        .await
        .unwrap();
    let file = fs::read(state.path().join("secrets").join(ID)).unwrap();
    assert!(!file.windows(7).any(|bytes| bytes == b"hunter2"));
    assert_eq!(value(&open(state.path()), ID).unwrap(), b"hunter2");
}

#[tokio::test]
async fn reference_is_stored_unchanged() {
    let state = tempfile::tempdir().unwrap();
    let text = r#" {"provider": "infisical", "key":"K"}"#;
    open(state.path()).store(ID.parse().unwrap(), reference(text), Principal::Admin).await.unwrap();
    let file = fs::read_to_string(state.path().join("secrets").join(ID)).unwrap();
    assert_eq!(file.split_once('\n').unwrap().1, text);
    assert_eq!(value(&open(state.path()), ID).unwrap(), b"infisical key=K");
}

/// Reference files, and whether they are read; the key does not matter.
#[tokio::test]
async fn reference_is_read_if_its_checksum_is_right() {
    let text = r#"{"provider":"infisical","key":"K"}"#;
    let good = reference_file::encode(ID, None, text.as_bytes());
    let mut damaged = good.clone();
    damaged[20] ^= 1;
    let of_another_id = reference_file::encode(OTHER, None, text.as_bytes());
    for (name, bytes, is_read) in [
        ("good", good, true),
        ("as the Python PSI wrote it", text.into(), false),
        ("damaged", damaged, false),
        ("of another id", of_another_id, false),
    ] {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("secrets");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(ID), &bytes).unwrap();
        fs::write(directory.join(OTHER), reference_file::encode(OTHER, None, text.as_bytes()))
            .unwrap();
        for keys in [Keys::None, Keys::Closed, Keys::Open(keyring())] {
            let registry = open_with(state.path(), keys);
            let is_reference = |id: &str| {
                matches!(registry.get(id.parse().unwrap()), Some(Registered::Reference(_)))
            };
            assert_eq!(is_reference(ID), is_read, "{name}");
            assert!(is_reference(OTHER), "{name}: one damaged file refuses one secret");
        }
        assert_eq!(fs::read(directory.join(ID)).unwrap(), bytes, "{name}: reading changes nothing");
    }
}

#[tokio::test]
async fn reference_is_stored_without_a_key() {
    let text = r#"{"provider":"infisical","key":"K"}"#;
    for keys in [Keys::None, Keys::Closed] {
        let state = tempfile::tempdir().unwrap();
        let registry = open_with(state.path(), keys);
        registry.store(ID.parse().unwrap(), reference(text), Principal::Admin).await.unwrap();
        registry.store(ID.parse().unwrap(), reference(text), Principal::Admin).await.unwrap();
        assert!(value(&open(state.path()), ID).is_some());
    }
}

#[tokio::test]
async fn id_is_registered_for_one_secret() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("one"), Principal::Admin).await.unwrap();
    registry.store(id, literal("one"), Principal::Admin).await.unwrap();
    assert!(matches!(
        registry.store(id, literal("two"), Principal::Admin).await,
        Err(RegistryError::Exists)
    ));
    let text = r#"{"provider":"infisical"}"#;
    assert!(matches!(
        registry.store(id, reference(text), Principal::Admin).await,
        Err(RegistryError::Exists)
    ));
    assert_eq!(value(&registry, ID).unwrap(), b"one");
}

#[tokio::test]
async fn literal_without_a_key_is_refused_and_not_written() {
    let state = tempfile::tempdir().unwrap();
    let registry = Arc::new(Registry::open(state.path(), Keys::None));
    let stored = registry.store(ID.parse().unwrap(), literal("hunter2"), Principal::Admin).await;
    assert!(matches!(stored, Err(RegistryError::NoBackend)));
    assert!(!state.path().join("secrets").exists());
}

#[tokio::test]
async fn literal_is_readable_once_the_key_is_unlocked() {
    let state = tempfile::tempdir().unwrap();
    open(state.path())
        .store(ID.parse().unwrap(), literal("hunter2"), Principal::Admin)
        .await
        .unwrap();
    let registry = Registry::open(state.path(), Keys::None);
    assert!(matches!(registry.get(ID.parse().unwrap()), Some(Registered::Invalid(_))));
    registry.unlock(keyring());
    assert_eq!(value(&registry, ID).unwrap(), b"hunter2");
}

#[tokio::test]
async fn literal_under_another_id_is_refused() {
    let state = tempfile::tempdir().unwrap();
    open(state.path())
        .store(ID.parse().unwrap(), literal("hunter2"), Principal::Admin)
        .await
        .unwrap();
    let directory = state.path().join("secrets");
    fs::rename(directory.join(ID), directory.join(OTHER)).unwrap();
    let known = open(state.path()).get(OTHER.parse().unwrap());
    assert!(matches!(known, Some(Registered::Invalid(why)) if why.contains("tampered")));
}

#[tokio::test]
async fn unreadable_directory_is_not_empty_and_is_read_again() {
    let state = tempfile::tempdir().unwrap();
    let id = ID.parse().unwrap();
    open(state.path()).store(id, literal("one"), Principal::Admin).await.unwrap();
    let (directory, away) = (state.path().join("secrets"), state.path().join("away"));
    fs::rename(&directory, &away).unwrap();
    fs::write(&directory, "no directory").unwrap();
    let registry = open(state.path());
    assert!(registry.fault().is_some() && registry.has_unreadable());
    let unreadable = |result: Result<(), RegistryError>| {
        assert!(matches!(result, Err(RegistryError::Unreadable(_))), "{result:?}");
    };
    unreadable(registry.find(id, Principal::Admin).map(drop));
    unreadable(registry.list(Principal::Admin).map(drop));
    unreadable(registry.store(id, literal("one"), Principal::Admin).await);
    unreadable(delete(&registry, id, time(Duration::ZERO)).await.map(drop));
    unreadable(registry.restore(id, Principal::Admin).await);
    fs::remove_file(&directory).unwrap();
    fs::rename(&away, &directory).unwrap();
    registry.reload_unreadable();
    assert!(!registry.has_unreadable());
    assert_eq!(value(&registry, ID).unwrap(), b"one");
    // A registration in RAM is served whatever happens to the directory.
    fs::rename(&directory, &away).unwrap();
    fs::write(&directory, "no directory").unwrap();
    registry.unlock(keyring());
    assert!(registry.find(id, Principal::Admin).is_ok());
    unreadable(registry.find(OTHER.parse().unwrap(), Principal::Admin).map(drop));
}

#[tokio::test]
async fn secret_in_ram_stays_when_its_file_becomes_unreadable() {
    let state = tempfile::tempdir().unwrap();
    let id = ID.parse().unwrap();
    let registry = open(state.path());
    registry.store(id, literal("one"), Principal::Admin).await.unwrap();
    let path = state.path().join("secrets").join(ID);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    registry.unlock(keyring());
    assert_eq!(value(&registry, ID).unwrap(), b"one");
}

/// Root runs psid's commands by hand, in the state directory of another user.
#[tokio::test]
async fn file_made_by_root_belongs_to_the_owner_of_the_state() {
    use std::os::unix::fs::MetadataExt;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(state.path(), Some(1234), Some(1234)).unwrap();
    let registry = open(state.path());
    let (id, other): (SecretId, SecretId) = (ID.parse().unwrap(), OTHER.parse().unwrap());
    registry.store(id, literal("one"), Principal::Admin).await.unwrap();
    registry.store(other, literal("two"), Principal::Admin).await.unwrap();
    registry.delete(id, time(Duration::ZERO), false, Principal::Admin).await.unwrap();
    let noted = PodmanName { name: "two".into(), store: String::new() };
    registry.note_names(vec![(other, noted)], Principal::Admin).await.unwrap();
    let secrets = state.path().join("secrets");
    for path in [
        secrets.clone(),
        secrets.join(OTHER),
        state.path().join("deleted"),
        state.path().join("deleted").join(ID),
        state.path().join("names"),
    ] {
        let about = fs::metadata(&path).unwrap();
        assert_eq!((about.uid(), about.gid()), (1234, 1234), "{}", path.display());
    }
}

/// N11: the Python PSI listed `cache.enc` as a secret, and a store could overwrite it.
#[tokio::test]
async fn n11_only_ids_are_secrets() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    registry.store(ID.parse().unwrap(), literal("one"), Principal::Admin).await.unwrap();
    for name in ["cache.enc", ".0123.tmp", "README"] {
        fs::write(state.path().join("secrets").join(name), "x").unwrap();
    }
    fs::write(state.path().join("cache.enc"), "x").unwrap();
    let ids: Vec<_> = open(state.path()).all().into_iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(ids, [ID]);
    assert!("cache.enc".parse::<SecretId>().is_err());
}

#[tokio::test]
async fn references_are_imported_under_free_ids() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let (taken, deleted) = ("1".repeat(25), "2".repeat(25));
    for id in [ID, &deleted] {
        registry
            .store(id.parse().unwrap(), reference(r#"{"provider":"a"}"#), Principal::Admin)
            .await
            .unwrap();
    }
    assert!(delete(&registry, deleted.parse().unwrap(), time(RESTORABLE)).await.unwrap());
    let raw = SecretBytes::new(b" {\"provider\":\"b\"}".to_vec());
    let other = Reference::parse(raw.expose_secret()).unwrap();
    let ids = [ID, &taken, &deleted].map(|id| id.parse().unwrap());
    let all = || ids.map(|id| (id, &other, &raw));
    assert_eq!(registry.adopt(all()).unwrap(), [ids[1]]);
    assert_eq!(registry.adopt(all()).unwrap(), []);
    let read = open(state.path());
    assert_eq!(value(&read, ID).unwrap(), b"a");
    assert_eq!(value(&read, &taken).unwrap(), b"b");
    assert_eq!(value(&read, &deleted), None);
    let file = fs::read(state.path().join("secrets").join(&taken)).unwrap();
    assert!(file.ends_with(raw.expose_secret()));
}

#[tokio::test]
async fn reference_is_repointed_and_a_literal_is_not() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let (id, other) = (ID.parse().unwrap(), OTHER.parse().unwrap());
    let repoint = async |id, key: &str| {
        let text = format!(r#"{{"provider":"infisical","key":"{key}"}}"#);
        let reference = Reference::parse(text.as_bytes()).unwrap();
        registry.repoint(id, reference, SecretBytes::new(text.into_bytes()), Principal::Admin).await
    };
    assert!(matches!(repoint(id, "A").await, Err(RegistryError::NotRegistered)));
    registry
        .store(id, reference(r#"{"provider":"infisical","key":"A"}"#), Principal::Admin)
        .await
        .unwrap();
    registry.store(other, literal("hunter2"), Principal::Admin).await.unwrap();
    assert!(!repoint(id, "A").await.unwrap());
    assert!(repoint(id, "B").await.unwrap());
    assert!(matches!(repoint(other, "B").await, Err(RegistryError::Exists)));
    for registry in [Arc::clone(&registry), open(state.path())] {
        assert_eq!(value(&registry, ID).unwrap(), b"infisical key=B");
        assert_eq!(value(&registry, OTHER).unwrap(), b"hunter2");
    }
}
