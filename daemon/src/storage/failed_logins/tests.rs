use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::table::MAX_SECRETS;
use super::*;
use std::path::Path;

const MINUTE: Duration = Duration::from_secs(60);
/// Paths with this run directory.
fn run(directory: &Path) -> Paths {
    let state = directory.to_owned();
    Paths { run: state.clone(), state, ..Paths::new(psi_common::Scope::System) }
}

const SUBJECT: &str = "infisical https://example.org client-1";

/// A clock for one test: each `clock!` has a time of its own.
macro_rules! clock {
    ($set:ident, $clock:ident) => {
        static SECONDS: AtomicU64 = AtomicU64::new(1_000);
        let $set = |span: Duration| {
            SECONDS.fetch_add(span.as_secs(), Ordering::SeqCst);
        };
        let $clock: fn() -> BootInstant =
            || BootInstant::at(Duration::from_secs(SECONDS.load(Ordering::SeqCst)));
    };
}

#[test]
fn login_pauses_double_up_to_an_hour_and_outlast_a_restart() {
    clock!(advance, clock);
    let directory = tempfile::tempdir().unwrap();
    let open = || FailedLogins::with(Some(run(directory.path())), clock);
    for (count, minutes) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60)] {
        assert_eq!(open().look_up(SUBJECT, b"wrong"), None);
        let refusal = open().record(SUBJECT, b"wrong", "401", RetryRule::Backoff);
        let wait = refusal.wait_left.unwrap();
        assert_eq!(refusal.count, count);
        assert!(wait >= MINUTE * minutes / 2 && wait <= MINUTE * minutes * 3 / 2, "{wait:?}");
        advance(wait / 2);
        let left = open().look_up(SUBJECT, b"wrong").unwrap();
        assert!(left.wait_left.unwrap() < wait && left.count == count, "{left:?}");
        assert_eq!(open().look_up(SUBJECT, b"another"), None);
        assert_eq!(open().look_up("another identity", b"wrong"), None);
        advance(wait);
    }
    open().clear(SUBJECT);
    assert_eq!(open().record(SUBJECT, b"wrong", "401", RetryRule::Backoff).count, 1);
}

#[test]
fn refused_pins_are_blocked_until_they_change_even_when_two_alternate() {
    let directory = tempfile::tempdir().unwrap();
    let open = || FailedLogins::open(&run(directory.path()));
    for pin in [b"1111", b"2222"] {
        open().record("token", pin, "CKR_PIN_INCORRECT", RetryRule::WhenChanged);
    }
    for pin in [b"1111", b"2222"] {
        let refusal = open().look_up("token", pin).unwrap();
        assert_eq!((refusal.wait_left, refusal.count), (None, 1));
    }
    assert_eq!(open().look_up("token", b"3333"), None);
    open().clear("token");
    assert_eq!(open().look_up("token", b"1111"), None);
}

#[test]
fn locked_identity_blocks_any_secret() {
    clock!(advance, clock);
    let directory = tempfile::tempdir().unwrap();
    let open = || FailedLogins::with(Some(run(directory.path())), clock);
    open().record(SUBJECT, b"a", "temporarily locked", RetryRule::After(MINUTE));
    let refusal = open().look_up(SUBJECT, b"b").unwrap();
    assert_eq!(refusal.wait_left, Some(MINUTE));
    advance(MINUTE);
    assert_eq!(open().look_up(SUBJECT, b"b"), None);
}

#[test]
fn reboot_ends_waits_but_pins_stay_refused() {
    let directory = tempfile::tempdir().unwrap();
    let failed_logins = FailedLogins::open(&run(directory.path()));
    failed_logins.record(SUBJECT, b"a", "401", RetryRule::Backoff);
    failed_logins.record("token", b"a", "wrong", RetryRule::WhenChanged);
    fs::remove_file(directory.path().join("boot")).unwrap();
    let rebooted = FailedLogins::open(&run(directory.path()));
    assert_eq!(rebooted.look_up(SUBJECT, b"a"), None);
    assert!(rebooted.look_up("token", b"a").is_some());
}

#[test]
fn file_is_private_and_holds_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let failed_logins = FailedLogins::open(&run(&directory.path().join("psid")));
    failed_logins.record("token", b"87654321", "two\nlines", RetryRule::WhenChanged);
    let path = directory.path().join("psid/refusals.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("87654321") && text.contains("two lines"), "{text}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn damaged_file_is_an_empty_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("refusals.json");
    let failed_logins = FailedLogins::open(&run(directory.path()));
    for damage in [
        "",
        "{",
        "[]",
        "{\"key\":\"zz\",\"subjects\":{}}",
        "{\"key\":\"\",\"subjects\":{\"token\":1}}",
    ] {
        fs::write(&path, damage).unwrap();
        assert_eq!(failed_logins.look_up("token", b"a"), None, "{damage}");
        failed_logins.record("token", b"a", "wrong", RetryRule::WhenChanged);
        assert!(
            FailedLogins::open(&run(directory.path())).look_up("token", b"a").is_some(),
            "{damage}"
        );
    }
}

#[test]
fn irregular_file_is_ignored_without_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("refusals.json");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(FailedLogins::open(&run(directory.path())).look_up("token", b"a"), None);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    assert_eq!(FailedLogins::open(&run(directory.path())).look_up("token", b"a"), None);
}

#[test]
fn without_a_directory_the_record_lasts_as_long_as_the_process() {
    // Not even root makes a directory below a file.
    let file = tempfile::NamedTempFile::new().unwrap();
    for failed_logins in
        [FailedLogins::open(&run(&file.path().join("psid"))), FailedLogins::in_ram()]
    {
        failed_logins.record("token", b"a", "wrong", RetryRule::WhenChanged);
        assert!(failed_logins.clone().look_up("token", b"a").is_some());
        assert_eq!(failed_logins.look_up("token", b"b"), None);
        failed_logins.clear("token");
        assert_eq!(failed_logins.look_up("token", b"a"), None);
    }
}

#[test]
fn failed_write_is_repeated_later() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("psid");
    fs::write(&directory, "in the way").unwrap();
    let failed_logins = FailedLogins::open(&run(&directory));
    failed_logins.record("one", b"a", "wrong", RetryRule::WhenChanged);
    fs::remove_file(&directory).unwrap();
    failed_logins.record("two", b"a", "wrong", RetryRule::WhenChanged);
    let other = FailedLogins::open(&run(&directory));
    assert!(other.look_up("one", b"a").is_some() && other.look_up("two", b"a").is_some());
}

#[test]
fn file_size_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let failed_logins = FailedLogins::open(&run(directory.path()));
    for number in 0..MAX_SUBJECTS + 5 {
        let secret = number.to_string();
        failed_logins.record(&format!("subject {number:04}"), b"a", "no", RetryRule::WhenChanged);
        failed_logins.record("zzz", secret.as_bytes(), "no", RetryRule::WhenChanged);
    }
    let table = read(&directory.path().join("refusals.json")).unwrap().unwrap();
    assert_eq!(table.subjects.len(), MAX_SUBJECTS);
    assert_eq!(table.subjects["zzz"].secrets.len(), MAX_SECRETS);
}
