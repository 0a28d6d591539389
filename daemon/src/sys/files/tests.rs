use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use psi_common::Paths;

use super::*;

#[test]
fn replace_writes_a_whole_private_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(directory.path().join(".file.tmp"), "left by a crash").unwrap();
    for text in ["one", "two"] {
        replace(&path, text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn move_aside_replaces_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.enc");
    let mut seen = Vec::new();
    for text in ["a", "b", "c"] {
        fs::write(&path, text).unwrap();
        let aside = move_aside(&path, "bad", 5).unwrap();
        seen.push(aside.file_name().unwrap().to_string_lossy().into_owned());
        assert_eq!(fs::read_to_string(aside).unwrap(), text);
    }
    assert_eq!(seen, ["cache.enc.bad-5", "cache.enc.bad-5.1", "cache.enc.bad-5.2"]);
}

#[test]
fn remove_temporary_files_removes_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("below");
    create_private_directory(&below).unwrap();
    for name in [".a.tmp", "a.tmp", ".a", "below/.b.tmp", "below/b"] {
        fs::write(directory.path().join(name), "x").unwrap();
    }
    fs::create_dir(directory.path().join(".secrets.tmp")).unwrap();
    fs::write(directory.path().join(".secrets.tmp/a"), "x").unwrap();
    remove_temporary_files(directory.path());
    let left = |path: &Path| fs::read_dir(path).unwrap().count();
    assert_eq!((left(directory.path()), left(&below)), (3, 1));
}

#[test]
fn add_all_adds_many_files_and_replaces_none() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("secrets");
    fs::create_dir(parent.path().join(".secrets.tmp")).unwrap();
    fs::write(parent.path().join(".secrets.tmp/a"), "left by a crash").unwrap();
    add_all(&directory, [("a", b"1".as_slice()), ("b", b"2")]).unwrap();
    add_all(&directory, [("c", b"3".as_slice())]).unwrap();
    let error = add_all(&directory, [("c", b"4".as_slice())]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    for (name, text) in [("a", "1"), ("b", "2"), ("c", "3")] {
        let path = directory.join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn run_directory_is_private_and_belongs_to_the_owner_of_the_state() {
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Paths::new(psi_common::Scope::System);
    paths.state = directory.path().join("state");
    paths.run = directory.path().join("psid");
    fs::create_dir(&paths.state).unwrap();
    let owner = if geteuid().is_root() { 1234 } else { geteuid().as_raw() };
    std::os::unix::fs::chown(&paths.state, Some(owner), None).unwrap();
    create_run_directory(&paths).unwrap();
    let about = fs::metadata(&paths.run).unwrap();
    assert_eq!((about.permissions().mode() & 0o777, about.uid()), (0o700, owner));
    let file = paths.run.join("boot");
    replace(&file, b"1").unwrap();
    let about = fs::metadata(&file).unwrap();
    assert_eq!((about.permissions().mode() & 0o777, about.uid()), (0o600, owner));
}

#[test]
fn directory_lock_has_one_holder() {
    let directory = tempfile::tempdir().unwrap();
    let held = lock_directory(directory.path(), Duration::ZERO).unwrap();
    let error = lock_directory(directory.path(), Duration::ZERO).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(held);
    lock_directory(directory.path(), Duration::ZERO).unwrap();
}
