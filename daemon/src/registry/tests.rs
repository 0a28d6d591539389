use super::*;
use crate::envelope::BackendPart;
use crate::sealer::DataKey;
use psi_common::BackendTag;

const ID: &str = "0123456789abcdef012345678";
const OTHER: &str = "876543210fedcba9876543210";

fn vault() -> Arc<Vault> {
    let key = DataKey::from_secret(&SecretBytes::new(vec![1; 32])).unwrap();
    Arc::new(Vault::new(key, BackendPart { tag: BackendTag::Tpm, bytes: Vec::new() }))
}

fn open(state: &Path) -> Arc<Registry> {
    open_with(state, Keys::Open(vault()))
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
        Registered::Unusable(why) => panic!("{why}"),
    }
}

fn time(span: Duration) -> Timestamp {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)).after(span)
}

#[tokio::test]
async fn a_literal_is_sealed_and_survives() {
    let state = tempfile::tempdir().unwrap();
    open(state.path()).store(ID.parse().unwrap(), literal("hunter2")).await.unwrap();
    let file = fs::read(state.path().join("secrets").join(ID)).unwrap();
    assert!(!file.windows(7).any(|bytes| bytes == b"hunter2"));
    assert_eq!(value(&open(state.path()), ID).unwrap(), b"hunter2");
}

#[tokio::test]
async fn a_reference_is_kept_as_it_is() {
    let state = tempfile::tempdir().unwrap();
    let text = r#" {"provider": "infisical", "key":"K"}"#;
    open(state.path()).store(ID.parse().unwrap(), reference(text)).await.unwrap();
    let file = fs::read_to_string(state.path().join("secrets").join(ID)).unwrap();
    assert_eq!(file.split_once('\n').unwrap().1, text);
    assert_eq!(value(&open(state.path()), ID).unwrap(), b"infisical key=K");
}

/// Each reference, as it lies there, and whether it is believed without a backend, with a key that is not
/// open, with an open key, and at the first start with a key.
#[tokio::test]
async fn a_reference_is_believed_by_its_seal_or_from_before_the_key() {
    let text = r#"{"provider":"infisical","key":"K"}"#;
    let other_key = DataKey::generate().unwrap();
    let other = Vault::new(other_key, BackendPart { tag: BackendTag::Tpm, bytes: Vec::new() });
    let file = |vault: Option<&Vault>| reference_file::encode(ID, text.as_bytes(), vault).unwrap();
    let (ours, other) = (vault(), &other);
    let mut damaged = file(Some(&ours));
    damaged[20] ^= 1;
    let of_another_id = reference_file::encode(OTHER, text.as_bytes(), Some(&vault())).unwrap();
    for (name, bytes, believed) in [
        ("sealed", file(Some(&ours)), [true, true, true, true]),
        ("sealed under another key", file(Some(other)), [true, true, false, true]),
        ("without a seal", file(None), [true, true, false, true]),
        ("as the Python PSI wrote it", text.into(), [true, true, false, true]),
        ("damaged", damaged, [false; 4]),
        ("of another id", of_another_id, [false; 4]),
    ] {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("secrets");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(ID), &bytes).unwrap();
        let keys = [Keys::None, Keys::Closed, Keys::Open(vault()), Keys::First(vault())];
        for (keys, believed) in keys.into_iter().zip(believed) {
            let found = open_with(state.path(), keys).get(ID.parse().unwrap());
            assert_eq!(matches!(found, Some(Registered::Reference(_))), believed, "{name}");
        }
        assert_eq!(fs::read(folder.join(ID)).unwrap(), bytes, "{name}: reading changes nothing");
        // Taken over: from now on the open key believes what it believed at first.
        let registry = open_with(state.path(), Keys::Closed);
        let is_from_before = believed == [true, true, false, true];
        assert_eq!(registry.take_over_with(vault()).unwrap(), u64::from(is_from_before), "{name}");
        let found = open(state.path()).get(ID.parse().unwrap());
        assert_eq!(matches!(found, Some(Registered::Reference(_))), believed[3], "{name}");
    }
}

#[tokio::test]
async fn with_a_key_that_is_not_open_nothing_is_stored_that_would_be_refused_later() {
    let state = tempfile::tempdir().unwrap();
    let text = r#"{"provider":"infisical","key":"K"}"#;
    let closed = open_with(state.path(), Keys::Closed);
    let stored = closed.store(ID.parse().unwrap(), reference(text)).await;
    assert!(matches!(stored, Err(RegistryError::NoKey)));
    // Without a backend there is nobody to refuse it.
    let without = open_with(state.path(), Keys::None);
    without.store(ID.parse().unwrap(), reference(text)).await.unwrap();
    without.store(ID.parse().unwrap(), reference(text)).await.unwrap();
}

#[tokio::test]
async fn what_was_deleted_and_damaged_is_not_restored() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("hunter2")).await.unwrap();
    registry.delete(id, time(Duration::ZERO)).await.unwrap();
    let grave = state.path().join("deleted").join(ID);
    let mut file = fs::read(&grave).unwrap();
    file[30] ^= 1;
    fs::write(&grave, file).unwrap();
    let restored = registry.restore(id).await;
    assert!(matches!(restored, Err(RegistryError::Unusable(why)) if why.contains("tampered")));
    assert!(grave.exists() && registry.get(id).is_none());
}

#[tokio::test]
async fn an_id_means_one_thing() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("one")).await.unwrap();
    registry.store(id, literal("one")).await.unwrap();
    assert!(matches!(registry.store(id, literal("two")).await, Err(RegistryError::Exists)));
    let text = r#"{"provider":"infisical"}"#;
    assert!(matches!(registry.store(id, reference(text)).await, Err(RegistryError::Exists)));
    assert_eq!(value(&registry, ID).unwrap(), b"one");
}

#[tokio::test]
async fn without_a_key_a_literal_is_refused_and_nothing_is_written() {
    let state = tempfile::tempdir().unwrap();
    let registry = Arc::new(Registry::open(state.path(), Keys::None));
    let stored = registry.store(ID.parse().unwrap(), literal("hunter2")).await;
    assert!(matches!(stored, Err(RegistryError::NoKey)));
    assert!(!state.path().join("secrets").exists());
}

#[tokio::test]
async fn a_literal_waits_for_its_key() {
    let state = tempfile::tempdir().unwrap();
    open(state.path()).store(ID.parse().unwrap(), literal("hunter2")).await.unwrap();
    let registry = Registry::open(state.path(), Keys::None);
    assert!(matches!(registry.get(ID.parse().unwrap()), Some(Registered::Unusable(_))));
    registry.unlock(vault());
    assert_eq!(value(&registry, ID).unwrap(), b"hunter2");
}

#[tokio::test]
async fn a_literal_under_another_id_is_refused() {
    let state = tempfile::tempdir().unwrap();
    open(state.path()).store(ID.parse().unwrap(), literal("hunter2")).await.unwrap();
    let folder = state.path().join("secrets");
    fs::rename(folder.join(ID), folder.join(OTHER)).unwrap();
    let known = open(state.path()).get(OTHER.parse().unwrap());
    assert!(matches!(known, Some(Registered::Unusable(why)) if why.contains("tampered")));
}

#[tokio::test]
async fn what_was_deleted_is_restorable_for_ten_minutes() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("hunter2")).await.unwrap();
    assert!(registry.delete(id, time(Duration::ZERO)).await.unwrap());
    assert!(!registry.delete(id, time(Duration::ZERO)).await.unwrap());
    assert!(value(&registry, ID).is_none());
    let minute = Duration::from_secs(60);
    registry.purge(time(minute));
    assert_eq!(registry.restorable(time(minute)), [(id, 9 * minute)]);
    registry.restore(id).await.unwrap();
    assert_eq!(value(&registry, ID).unwrap(), b"hunter2");
    registry.delete(id, time(Duration::ZERO)).await.unwrap();
    registry.purge(time(11 * minute));
    assert!(matches!(registry.restore(id).await, Err(RegistryError::NothingDeleted)));
}

#[tokio::test]
async fn an_unreadable_folder_is_not_an_empty_one() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("secrets"), "no folder").unwrap();
    let registry = open(state.path());
    assert!(registry.fault().is_some());
    let id = ID.parse().unwrap();
    assert!(matches!(registry.store(id, literal("one")).await, Err(RegistryError::Storage(_))));
    assert!(matches!(
        registry.delete(id, time(Duration::ZERO)).await,
        Err(RegistryError::Storage(_))
    ));
}

#[tokio::test]
async fn a_secret_whose_file_is_lost_can_be_deleted() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("one")).await.unwrap();
    fs::remove_file(state.path().join("secrets").join(ID)).unwrap();
    assert!(registry.delete(id, time(Duration::ZERO)).await.unwrap());
    assert!(registry.get(id).is_none());
}

/// N11: the Python PSI listed `cache.enc` as a secret, and a store could overwrite it.
#[tokio::test]
async fn n11_only_ids_are_secrets() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    registry.store(ID.parse().unwrap(), literal("one")).await.unwrap();
    for name in ["cache.enc", ".0123.tmp", "README"] {
        fs::write(state.path().join("secrets").join(name), "x").unwrap();
    }
    fs::write(state.path().join("cache.enc"), "x").unwrap();
    let ids: Vec<_> = open(state.path()).all().into_iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(ids, [ID]);
    assert!("cache.enc".parse::<SecretId>().is_err());
}

#[tokio::test]
async fn references_are_taken_over_where_their_id_is_free() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let (taken, deleted) = ("1".repeat(25), "2".repeat(25));
    for id in [ID, &deleted] {
        registry.store(id.parse().unwrap(), reference(r#"{"provider":"a"}"#)).await.unwrap();
    }
    assert!(registry.delete(deleted.parse().unwrap(), time(RESTORABLE)).await.unwrap());
    let raw = SecretBytes::new(b" {\"provider\":\"b\"}".to_vec());
    let other = Reference::parse(raw.expose_secret()).unwrap();
    let ids = [ID, &taken, &deleted].map(|id| id.parse().unwrap());
    let all = || ids.map(|id| (id, &other, &raw));
    assert_eq!(registry.take_over(all()).unwrap(), [ids[1]]);
    assert_eq!(registry.take_over(all()).unwrap(), []);
    let read = open(state.path());
    assert_eq!(value(&read, ID).unwrap(), b"a");
    assert_eq!(value(&read, &taken).unwrap(), b"b");
    assert_eq!(value(&read, &deleted), None);
    let file = fs::read(state.path().join("secrets").join(&taken)).unwrap();
    assert!(file.ends_with(raw.expose_secret()));
}

#[tokio::test]
async fn a_reference_is_repointed_in_place_and_a_literal_never() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let (id, other) = (ID.parse().unwrap(), OTHER.parse().unwrap());
    let repoint = async |id, key: &str| {
        let text = format!(r#"{{"provider":"infisical","key":"{key}"}}"#);
        let reference = Reference::parse(text.as_bytes()).unwrap();
        registry.repoint(id, reference, SecretBytes::new(text.into_bytes())).await
    };
    assert!(matches!(repoint(id, "A").await, Err(RegistryError::NotRegistered)));
    registry.store(id, reference(r#"{"provider":"infisical","key":"A"}"#)).await.unwrap();
    registry.store(other, literal("hunter2")).await.unwrap();
    assert!(!repoint(id, "A").await.unwrap());
    assert!(repoint(id, "B").await.unwrap());
    assert!(matches!(repoint(other, "B").await, Err(RegistryError::Exists)));
    for registry in [Arc::clone(&registry), open(state.path())] {
        assert_eq!(value(&registry, ID).unwrap(), b"infisical key=B");
        assert_eq!(value(&registry, OTHER).unwrap(), b"hunter2");
    }
}
