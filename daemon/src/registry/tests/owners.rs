//! Registrations of users.

use super::*;

const ALICE: Principal = Principal::User(1_000);
const BOB: Principal = Principal::User(1_001);
const TEXT: &str = r#"{"provider":"infisical","key":"K"}"#;

fn id(number: usize) -> SecretId {
    format!("{number:025x}").parse().unwrap()
}

#[tokio::test]
async fn owner_survives_a_restart_also_without_a_key() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    registry.store(id(1), literal("hunter2"), ALICE).await.unwrap();
    registry.store(id(2), reference(TEXT), ALICE).await.unwrap();
    registry.store(id(3), literal("roots"), Principal::Admin).await.unwrap();
    for keys in [Keys::Open(keyring()), Keys::Closed] {
        let registry = open_with(state.path(), keys);
        assert_eq!(registry.owner(id(1)), Some(Some(1_000)));
        assert_eq!(registry.owner(id(2)), Some(Some(1_000)));
        assert_eq!(registry.owner(id(3)), Some(None));
    }
    assert_eq!(value(&open(state.path()), &id(1).to_string()).unwrap(), b"hunter2");
}

#[tokio::test]
async fn owner_of_a_literal_is_authenticated() {
    let state = tempfile::tempdir().unwrap();
    open(state.path()).store(id(1), literal("hunter2"), ALICE).await.unwrap();
    let path = state.path().join("secrets").join(id(1).as_str());
    let mut file = fs::read(&path).unwrap();
    assert!(file.starts_with(b"PSIU"));
    // The last byte of the uid, after the magic, the version and the backend.
    file[9] ^= 1;
    fs::write(&path, &file).unwrap();
    let registry = open(state.path());
    assert_eq!(registry.owner(id(1)), Some(Some(1_001)));
    assert!(matches!(registry.get(id(1)), Some(Registered::Invalid(_))));
    // Nor is it the literal of root.
    fs::write(&path, [b"PSIL".as_slice(), &file[4..6], &file[10..]].concat()).unwrap();
    assert!(matches!(open(state.path()).get(id(1)), Some(Registered::Invalid(_))));
}

#[tokio::test]
async fn foreign_registration_is_as_unknown() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let now = time(Duration::ZERO);
    registry.store(id(1), literal("hunter2"), ALICE).await.unwrap();
    let unknown = |result: Result<(), RegistryError>| {
        assert!(matches!(result, Err(RegistryError::NotRegistered)), "{result:?}");
    };
    let restored = |result: Result<(), RegistryError>| {
        assert!(matches!(result, Err(RegistryError::NothingDeleted)), "{result:?}");
    };
    let foreign = |result: Result<(), RegistryError>| {
        assert!(matches!(result, Err(RegistryError::Foreign)), "{result:?}");
    };
    for id in [id(1), id(2)] {
        unknown(registry.find(id, BOB).map(drop));
        assert!(!registry.delete(id, now, false, BOB).await.unwrap());
        assert!(!registry.delete(id, now, true, BOB).await.unwrap());
        restored(registry.restore(id, BOB).await);
        let new = Reference::parse(TEXT.as_bytes()).unwrap();
        let raw = SecretBytes::new(TEXT.into());
        unknown(registry.repoint(id, new, raw, BOB).await.map(drop));
        let name = PodmanName { name: "stolen".into(), store: String::new() };
        assert_eq!(registry.note_names(vec![(id, name)], BOB).await.unwrap(), 0);
    }
    assert!(registry.list(BOB).unwrap().is_empty());
    foreign(registry.store(id(1), literal("hunter2"), BOB).await);
    // Nor is a deleted one overwritten, restored or listed.
    assert!(registry.delete(id(1), now, false, ALICE).await.unwrap());
    for registry in [registry, open(state.path())] {
        unknown(registry.find(id(1), BOB).map(drop));
        restored(registry.restore(id(1), BOB).await);
        foreign(registry.store(id(1), literal("bob's"), BOB).await);
        assert!(registry.restorable(now, BOB).unwrap().is_empty());
        assert_eq!(registry.restorable(now, ALICE).unwrap().len(), 1);
        assert!(matches!(registry.find(id(1), ALICE), Err(RegistryError::Deleted(_))));
    }
    let registry = open(state.path());
    registry.restore(id(1), ALICE).await.unwrap();
    assert_eq!(registry.owner(id(1)), Some(Some(1_000)));
    assert!(registry.delete(id(1), now, false, Principal::Admin).await.unwrap());
}

#[tokio::test]
async fn refused_delete_of_a_user_pauses_no_other_ones_stores() {
    let state = tempfile::tempdir().unwrap();
    open(state.path()).store(id(1), literal("hunter2"), ALICE).await.unwrap();
    let closed = open_with(state.path(), Keys::Closed);
    let now = time(Duration::ZERO);
    assert!(closed.delete(id(1), now, false, ALICE).await.is_err());
    let paused = closed.store(id(2), reference(TEXT), ALICE).await;
    assert!(matches!(paused, Err(RegistryError::Paused)));
    closed.store(id(2), reference(TEXT), BOB).await.unwrap();
    closed.store(id(3), reference(TEXT), Principal::Admin).await.unwrap();
    assert!(closed.delete(id(2), now, true, BOB).await.unwrap());
    assert_eq!(closed.deleted_just_now(BOB), Some(id(2)));
    assert_eq!(closed.deleted_just_now(Principal::Admin), None);
}

#[tokio::test]
async fn literals_and_their_bytes_are_limited_for_each_user() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let quota = |result: Result<(), RegistryError>, words: &str| {
        let why = result.unwrap_err().to_string();
        assert!(why.contains(words), "{why}");
    };
    for number in 0..200 {
        registry.store(id(number), literal("x"), ALICE).await.unwrap();
    }
    quota(registry.store(id(900), literal("x"), ALICE).await, "200 literals registered");
    registry.store(id(901), reference(TEXT), ALICE).await.unwrap();
    registry.store(id(902), literal("x"), BOB).await.unwrap();
    let large = "x".repeat(MAX_SECRET_BYTES);
    let mut stored = 0;
    let refused = loop {
        match registry.store(id(1_000 + stored), literal(&large), BOB).await {
            Ok(()) => stored += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(stored, (16 << 20) / MAX_SECRET_BYTES);
    quota(Err(refused), "16 MiB are the most for one user");
    for number in 2_000..2_300 {
        registry.store(id(number), literal("x"), Principal::Admin).await.unwrap();
    }
    // What a user deletes is not kept without limit either.
    for number in 0..100 {
        let at = time(Duration::from_millis(number as u64));
        assert!(registry.delete(id(number), at, false, ALICE).await.unwrap());
    }
    let kept = registry.restorable(time(Duration::from_secs(1)), ALICE).unwrap();
    assert_eq!(kept.len(), 64);
    assert_eq!(kept[0].0, id(36), "the last ones are kept");
}
