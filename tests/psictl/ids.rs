//! `SECRET_ID`: checked before any call.

use psi_harness::{Instance, id};

const REMEDY: &str = "podman sets SECRET_ID; by hand, use an id of `psictl list`";

#[test]
fn every_podman_verb_reports_a_missing_id() {
    let instance = Instance::empty();
    for verb in ["lookup", "store", "delete"] {
        let line = instance.driver(&[verb]).stdin("x").fails(65);
        assert_eq!(line, format!("psi-driver: {verb}: SECRET_ID is not set; {REMEDY}"));
    }
}

#[test]
fn empty_id_is_refused() {
    let instance = Instance::empty();
    for verb in ["lookup", "store"] {
        let line = instance.driver(&[verb]).id("").stdin("x").fails(65);
        assert_eq!(line, format!("psi-driver: {verb}: the secret id is empty; {REMEDY}"));
    }
}

/// Podman 5.1 and later delete the empty id on `create --replace` of a missing name. Podman
/// continues after a failure; after a success it would drop another secret.
#[test]
fn delete_of_the_empty_id_fails_silently() {
    let outcome = Instance::empty().driver(&["delete"]).id("").run();
    assert_ne!(outcome.code, 0);
    assert_eq!((outcome.stdout.as_slice(), outcome.stderr.as_str()), (&b""[..], ""));
}

#[test]
fn malformed_id_is_refused_in_one_line() {
    let instance = Instance::empty();
    let cases = [
        ("0123456789abcdef01234567", "0123456789abcdef01234567"),
        ("0123456789ABCDEF012345678", "0123456789ABCDEF012345678"),
        ("0123456789abcdef0123456789", "0123456789abcdef0123456789"),
        ("../../../../../etc/shadow", "../../../../../etc/shadow"),
        ("cache.enc", "cache.enc"),
        ("two\nlines", "two\\nlines"),
        ("\u{1b}[31mred", "\\u{1b}[31mred"),
    ];
    for (given, shown) in cases {
        for verb in ["lookup", "store", "delete"] {
            let line = instance.driver(&[verb]).id(given).stdin("x").fails(65);
            assert_eq!(
                line,
                format!(
                    "psi-driver: {verb} {shown}: '{shown}' is no secret id (25 lower-case \
                     hexadecimal digits); {REMEDY}"
                )
            );
        }
    }
}

#[test]
fn binary_and_endless_ids_are_refused_in_one_line() {
    use std::os::unix::ffi::OsStrExt;
    let instance = Instance::empty();
    let endless = "a".repeat(100_000);
    let cases = [std::ffi::OsStr::from_bytes(b"\xff\xfe"), std::ffi::OsStr::new(&endless)];
    for given in cases {
        let line = instance.driver(&["lookup"]).id(given).fails(65);
        assert!(line.len() < 500 && line.contains("is no secret id"), "{line}");
    }
}

#[test]
fn restore_explains_where_ids_come_from() {
    let line = Instance::empty().driver(&["restore", "abc"]).fails(65);
    assert_eq!(
        line,
        "psictl: restore abc: 'abc' is no secret id (25 lower-case hexadecimal digits); use an \
         id of `psictl restore`"
    );
}

#[test]
fn stdin_is_checked_before_the_call() {
    let instance = Instance::empty();
    let store = |bytes: &[u8]| instance.driver(&["store"]).id(id(1)).stdin(bytes).fails(65);
    let name = id(1);
    assert_eq!(
        store(b""),
        format!("psi-driver: store {name}: stdin is empty; pass the secret on stdin")
    );
    assert_eq!(
        store(&[0; 512_000]),
        format!(
            "psi-driver: store {name}: stdin holds more than 511999 bytes, podman's limit for a \
             secret; split it, or mount a file instead"
        )
    );
}
