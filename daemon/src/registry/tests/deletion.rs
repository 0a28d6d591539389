//! Deletes, the trash and restores.

use super::*;

#[tokio::test]
async fn damaged_file_is_not_restored() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("hunter2"), Principal::Admin).await.unwrap();
    delete(&registry, id, time(Duration::ZERO)).await.unwrap();
    let grave = state.path().join("deleted").join(ID);
    let mut file = fs::read(&grave).unwrap();
    file[30] ^= 1;
    fs::write(&grave, file).unwrap();
    let restored = registry.restore(id, Principal::Admin).await;
    assert!(matches!(restored, Err(RegistryError::Invalid(why)) if why.contains("tampered")));
    assert!(grave.exists() && registry.get(id).is_none());
}

#[tokio::test]
async fn deleted_registration_is_restorable_for_ten_minutes() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("hunter2"), Principal::Admin).await.unwrap();
    assert!(delete(&registry, id, time(Duration::ZERO)).await.unwrap());
    assert!(!delete(&registry, id, time(Duration::ZERO)).await.unwrap());
    assert!(value(&registry, ID).is_none());
    let minute = Duration::from_secs(60);
    registry.purge(time(minute));
    assert_eq!(registry.restorable(time(minute), Principal::Admin).unwrap(), [(id, 9 * minute)]);
    registry.restore(id, Principal::Admin).await.unwrap();
    assert_eq!(value(&registry, ID).unwrap(), b"hunter2");
    delete(&registry, id, time(Duration::ZERO)).await.unwrap();
    registry.purge(time(11 * minute));
    assert!(matches!(
        registry.restore(id, Principal::Admin).await,
        Err(RegistryError::NothingDeleted)
    ));
}

/// The same for `deleted`, and for a single file.
#[tokio::test]
async fn unreadable_trash_or_file_is_reported_and_read_again() {
    let state = tempfile::tempdir().unwrap();
    let (id, other): (SecretId, SecretId) = (ID.parse().unwrap(), OTHER.parse().unwrap());
    let registry = open(state.path());
    registry.store(id, literal("one"), Principal::Admin).await.unwrap();
    registry.store(other, literal("two"), Principal::Admin).await.unwrap();
    assert!(delete(&registry, id, time(Duration::ZERO)).await.unwrap());
    let (trash, file) = (state.path().join("deleted"), state.path().join("secrets").join(OTHER));
    for path in [&trash, &file] {
        fs::rename(path, state.path().join("away")).unwrap();
        // A file in place of a directory, and a directory in place of a file.
        match path == &trash {
            true => fs::write(path, "").unwrap(),
            false => fs::create_dir(path).unwrap(),
        }
        let registry = open(state.path());
        assert!(registry.has_unreadable());
        if path == &trash {
            assert!(matches!(
                registry.restorable(time(Duration::ZERO), Principal::Admin),
                Err(RegistryError::Unreadable(_))
            ));
            assert!(matches!(
                registry.restore(id, Principal::Admin).await,
                Err(RegistryError::Unreadable(_) | RegistryError::Storage(_))
            ));
        } else {
            assert!(matches!(registry.get(other), Some(Registered::Unreadable(_))));
            assert!(matches!(
                registry.store(other, literal("two"), Principal::Admin).await,
                Err(RegistryError::Unreadable(_))
            ));
        }
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        fs::rename(state.path().join("away"), path).unwrap();
        registry.reload_unreadable();
        assert!(!registry.has_unreadable());
    }
    let registry = open(state.path());
    registry.restore(id, Principal::Admin).await.unwrap();
    assert_eq!(
        (value(&registry, ID).unwrap(), value(&registry, OTHER).unwrap()),
        (b"one".into(), b"two".into())
    );
}

#[tokio::test]
async fn delete_is_refused_while_a_store_would_fail() {
    let state = tempfile::tempdir().unwrap();
    let (id, other) = (ID.parse().unwrap(), OTHER.parse().unwrap());
    let text = r#"{"provider":"infisical","key":"K"}"#;
    open(state.path()).store(id, reference(text), Principal::Admin).await.unwrap();
    let closed = open_with(state.path(), Keys::Closed);
    let refused = delete(&closed, id, time(Duration::ZERO)).await;
    assert!(matches!(refused, Err(RegistryError::Irreplaceable(kept, _)) if kept == id));
    // Podman goes on with the store of `secret create --replace`.
    let stored = closed.store(other, reference(text), Principal::Admin).await;
    assert!(matches!(stored, Err(RegistryError::Paused)), "{stored:?}");
    assert!(value(&open(state.path()), ID).is_some());
    assert!(
        !delete(&closed, other, time(Duration::ZERO)).await.unwrap(),
        "an unknown id is no error"
    );
    assert!(
        closed.delete(id, time(Duration::ZERO), true, Principal::Admin).await.unwrap(),
        "force deletes"
    );
    // Without a backend no key is awaited.
    let without = open_with(state.path(), Keys::None);
    without.store(other, reference(text), Principal::Admin).await.unwrap();
    assert!(delete(&without, other, time(Duration::ZERO)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn stores_are_refused_for_two_seconds_after_a_refused_delete() {
    let state = tempfile::tempdir().unwrap();
    let (id, other) = (ID.parse().unwrap(), OTHER.parse().unwrap());
    let text = r#"{"provider":"infisical","key":"K"}"#;
    let closed = open_with(state.path(), Keys::Closed);
    closed.store(id, reference(text), Principal::Admin).await.unwrap();
    assert!(delete(&closed, id, time(Duration::ZERO)).await.is_err());
    tokio::time::advance(Duration::from_millis(1_900)).await;
    assert!(matches!(
        closed.store(other, reference(text), Principal::Admin).await,
        Err(RegistryError::Paused)
    ));
    tokio::time::advance(Duration::from_millis(200)).await;
    closed.store(other, reference(text), Principal::Admin).await.unwrap();
}

/// Setting the wall clock forward by a day and back neither ends the ten minutes nor prolongs them.
#[tokio::test]
async fn step_of_the_wall_clock_does_not_change_the_age_of_trash() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("hunter2"), Principal::Admin).await.unwrap();
    let deleted_at = time(Duration::ZERO);
    assert!(delete(&registry, id, deleted_at).await.unwrap());
    let minute = Duration::from_secs(60);
    let day = Duration::from_secs(86_400);
    let stepped = Now { wall: deleted_at.wall.after(day), ..time(minute) };
    registry.purge(stepped);
    assert_eq!(registry.restorable(stepped, Principal::Admin).unwrap(), [(id, 9 * minute)]);
    registry.purge(Now { wall: deleted_at.wall.before(day), ..time(11 * minute) });
    assert!(!state.path().join("deleted").join(ID).exists());
}

#[tokio::test]
async fn recently_deleted_id_has_its_own_error() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("hunter2"), Principal::Admin).await.unwrap();
    assert!(delete(&registry, id, time(Duration::ZERO)).await.unwrap());
    for registry in [&registry, &open(state.path())] {
        assert!(matches!(registry.find(id, Principal::Admin), Err(RegistryError::Deleted(_))));
        let unknown = registry.find(OTHER.parse().unwrap(), Principal::Admin);
        assert!(matches!(unknown, Err(RegistryError::NotRegistered)));
    }
}

#[tokio::test]
async fn secret_without_its_file_can_be_deleted() {
    let state = tempfile::tempdir().unwrap();
    let registry = open(state.path());
    let id = ID.parse().unwrap();
    registry.store(id, literal("one"), Principal::Admin).await.unwrap();
    fs::remove_file(state.path().join("secrets").join(ID)).unwrap();
    assert!(delete(&registry, id, time(Duration::ZERO)).await.unwrap());
    assert!(registry.get(id).is_none());
}
