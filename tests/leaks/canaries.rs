//! Canaries, and the search for them.

use std::fs;
use std::path::Path;

use data_encoding::{BASE64_NOPAD, HEXLOWER};
use psi_harness::eventually;

/// The names of the secrets, each with one form that would reveal it.
#[derive(Default)]
pub(super) struct Canaries(Vec<(String, Vec<u8>)>);

/// A unique text.
pub(super) fn canary(kind: &str) -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    format!("canary-{kind}-{}", HEXLOWER.encode(&bytes))
}

impl Canaries {
    /// Adds a secret in each form in which people and programs print bytes.
    pub(super) fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 16, "{name} is too short to be unique");
        let decimal: Vec<String> = secret.iter().map(ToString::to_string).collect();
        for (form, bytes) in [
            ("", secret.to_vec()),
            (" in hex", HEXLOWER.encode(secret).into_bytes()),
            (" in upper hex", HEXLOWER.encode(secret).to_uppercase().into_bytes()),
            (" in base64", BASE64_NOPAD.encode(secret).into_bytes()),
            (" as a list", decimal.join(", ").into_bytes()),
        ] {
            self.0.push((format!("{name}{form}"), bytes));
        }
    }

    /// The name of a canary in `bytes`.
    pub(super) fn within(&self, bytes: &[u8]) -> Option<&str> {
        self.0.iter().find(|(_, canary)| holds(bytes, canary)).map(|(name, _)| name.as_str())
    }

    /// Panics with the canary's name if one is in `bytes`.
    #[track_caller]
    pub(super) fn absent(&self, place: &str, bytes: &[u8]) {
        if let Some(name) = self.within(bytes) {
            panic!("{name} is in {place}:\n{}", String::from_utf8_lossy(bytes));
        }
    }

    /// The file below `directory` that contains a canary, and the canary's name. Only regular files
    /// are read, and `except` is skipped.
    pub(super) fn below(&self, directory: &Path, except: &Path) -> Option<String> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| {
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if path == except {
                None
            } else if kind.is_dir() {
                self.below(&path, except)
            } else if kind.is_file() {
                let name = self.within(&fs::read(&path).unwrap())?;
                Some(format!("{name} is in {}", path.display()))
            } else {
                None
            }
        })
    }

    /// A canary in what a process exposes to others.
    pub(super) fn shown_by(&self, pid: u32) -> Option<String> {
        ["cmdline", "environ", "comm", "stat"].into_iter().find_map(|name| {
            let path = format!("/proc/{pid}/{name}");
            // A starting process has an empty command line; an ended one stays empty.
            let bytes = eventually(&format!("{path} to show something"), || {
                fs::read(&path).ok().filter(|bytes| !bytes.is_empty())
            });
            Some(format!("{} is in {path}", self.within(&bytes)?))
        })
    }
}

/// Whether `needle` is in `bytes`.
pub(super) fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = bytes;
    // By first bytes: the memory has megabytes, and the tests are not optimised.
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[test]
fn search_finds_every_encoding() {
    let mut canaries = Canaries::default();
    canaries.add("the key", b"0123456789abcdef\xff");
    for (bytes, name) in [
        (&b"xx0123456789abcdef\xffx"[..], "the key"),
        (b"3031323334353637383961626364656Ff 30313233343536373839616263646566ff", "the key in hex"),
        (b"=30313233343536373839616263646566FF", "the key in upper hex"),
        (b"MDEyMzQ1Njc4OWFiY2RlZv8=", "the key in base64"),
        (
            b"[48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 97, 98, 99, 100, 101, 102, 255]",
            "the key as a list",
        ),
    ] {
        assert_eq!(canaries.within(bytes), Some(name));
    }
    assert_eq!(canaries.within(b"0123456789abcde\xff 000123456789abcdef"), None);
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    assert_eq!(canaries.below(directory.path(), Path::new("")), None);
    fs::write(deep.join("c"), b"x0123456789abcdef\xff").unwrap();
    let found = canaries.below(directory.path(), Path::new("")).unwrap();
    assert!(found.starts_with("the key is in ") && found.ends_with("a/b/c"), "{found}");
    assert_eq!(canaries.below(directory.path(), &deep), None);
}
