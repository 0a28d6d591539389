//! The suite of the key backends, on real ones: `tpm` with systemd-creds and a software TPM, `hsm`
//! with Kryoptic.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use psi_harness::{Probe, Token, Tpm, bytes, hex};

/// One backend and its storage. `Probe`s of one home are psids of one host.
enum Home {
    Tpm { tpm: Tpm, directory: TempDir },
    Hsm { token: Token },
}

/// Runs the suite over each backend.
macro_rules! on_each {
    ($($name:ident)*) => {
        mod tpm {
            $(#[test] fn $name() { super::$name(&super::Home::tpm()); })*
        }
        mod hsm {
            $(#[test] fn $name() { super::$name(&super::Home::hsm()); })*
        }
    };
}

on_each! {
    what_is_kept_opens
    a_kept_key_outlives_the_process
    a_key_whose_making_was_interrupted_opens
    two_keys_of_an_interrupted_rekey_come_in_order
    what_was_tampered_with_is_refused
    what_another_one_keeps_is_refused
    without_a_key_it_is_told_what_to_do
}

const FIRST: [u8; 32] = [1; 32];
const SECOND: [u8; 32] = [2; 32];

impl Home {
    fn tpm() -> Self {
        Self::Tpm { tpm: Tpm::start(), directory: tempfile::tempdir().unwrap() }
    }

    fn hsm() -> Self {
        Self::Hsm { token: Token::kryoptic() }
    }

    /// Another host, with a TPM or token of its own.
    fn other(&self) -> Self {
        match self {
            Self::Tpm { .. } => Self::tpm(),
            Self::Hsm { .. } => Self::hsm(),
        }
    }

    /// Copies this host's disk to that one.
    fn move_disk_to(&self, other: &Self) {
        // A token's wrapped key is in the files, which the caller passes on.
        if let (Self::Tpm { .. }, Self::Tpm { .. }) = (self, other) {
            fs::copy(self.sealed(), other.sealed()).unwrap();
        }
    }

    fn probe(&self) -> Probe {
        match self {
            Self::Tpm { tpm, .. } => Probe::of_tpm(tpm, &self.sealed()),
            Self::Hsm { token } => Probe::of_token(token),
        }
    }

    /// The sealed key of the tpm backend.
    fn sealed(&self) -> PathBuf {
        match self {
            Self::Tpm { directory, .. } => directory.path().join("cache.key"),
            Self::Hsm { .. } => panic!("a token's key is in the files"),
        }
    }

    /// Closes the TPM's few sessions; otherwise only the kernel does.
    fn flush(&self) {
        if let Self::Tpm { tpm, .. } = self {
            tpm.flush();
        }
    }

    #[track_caller]
    fn keep(&self, probe: &mut Probe, key: [u8; 32]) -> Vec<u8> {
        self.flush();
        let kept = probe.ok(json!({ "do": "keep", "key": hex(&key) }));
        assert_eq!(kept["key"], hex(&key));
        bytes(&kept["part"])
    }

    #[track_caller]
    fn keep_and_commit(&self, probe: &mut Probe, key: [u8; 32]) -> Vec<u8> {
        let part = self.keep(probe, key);
        probe.ok(json!({ "do": "commit" }));
        part
    }

    /// The keys, for files with these wrapped keys.
    #[track_caller]
    fn load(&self, probe: &mut Probe, parts: &[&[u8]]) -> Vec<Vec<u8>> {
        self.flush();
        let loaded = probe.ok(load(parts));
        loaded["keys"].as_array().unwrap().iter().map(|key| bytes(&key["key"])).collect()
    }

    #[track_caller]
    fn does_not_load(&self, probe: &mut Probe, parts: &[&[u8]]) -> String {
        self.flush();
        probe.fails(load(parts))
    }
}

fn load(parts: &[&[u8]]) -> Value {
    json!({ "do": "load", "parts": parts.iter().map(|part| hex(part)).collect::<Vec<_>>() })
}

fn what_is_kept_opens(home: &Home) {
    let mut probe = home.probe();
    let part = home.keep_and_commit(&mut probe, FIRST);
    assert_eq!(home.load(&mut probe, &[&part]), [FIRST]);
    // Twice, because psid repeats it while a rekey fails.
    probe.ok(json!({ "do": "commit" }));
    assert_eq!(home.load(&mut probe, &[&part]), [FIRST]);
}

fn a_kept_key_outlives_the_process(home: &Home) {
    let mut probe = home.probe();
    let part = home.keep_and_commit(&mut probe, FIRST);
    probe.kill();
    assert_eq!(home.load(&mut home.probe(), &[&part]), [FIRST]);
}

fn a_key_whose_making_was_interrupted_opens(home: &Home) {
    let mut probe = home.probe();
    let part = home.keep(&mut probe, FIRST);
    probe.kill();
    assert_eq!(home.load(&mut home.probe(), &[&part]), [FIRST]);
}

/// The cache is the first file that is encrypted under the new key.
fn two_keys_of_an_interrupted_rekey_come_in_order(home: &Home) {
    let mut probe = home.probe();
    let first = home.keep_and_commit(&mut probe, FIRST);
    let second = home.keep(&mut probe, SECOND);
    probe.kill();
    let mut probe = home.probe();
    let mut parts = vec![second.as_slice(), &first];
    // The tpm backend has no parts.
    parts.dedup();
    assert_eq!(home.load(&mut probe, &parts), [SECOND, FIRST]);
    probe.ok(json!({ "do": "commit" }));
    assert_eq!(home.load(&mut probe, &[&second]), [SECOND]);
}

fn what_was_tampered_with_is_refused(home: &Home) {
    let mut probe = home.probe();
    let part = home.keep_and_commit(&mut probe, FIRST);
    match home {
        Home::Tpm { .. } => {
            let sealed = fs::read_to_string(home.sealed()).unwrap();
            // Base64 with line breaks: single characters may be redundant, but not a whole range.
            let half = sealed.len() / 2;
            let other = if &sealed[half..=half] == "A" { "B" } else { "A" };
            let damaged = format!("{}{}{}", &sealed[..half], other.repeat(9), &sealed[half + 9..]);
            fs::write(home.sealed(), damaged).unwrap();
            let error = home.does_not_load(&mut probe, &[]);
            let expected = format!("the key in {} does not open: ", home.sealed().display());
            assert!(error.starts_with(&expected), "{error}");
            assert!(error.contains("cache recover") && error.contains("--force"), "{error}");
        }
        Home::Hsm { token } => {
            let opened = token.calls("C_Decrypt");
            // The length, the wrapped key, and the signature.
            for at in [0, 1, 2, 100, 257, 258, 400, part.len() - 1] {
                let mut damaged = part.clone();
                damaged[at] ^= 1;
                let error = home.does_not_load(&mut probe, &[&damaged]);
                let causes = ["is not signed by this token's key: ", "is damaged; "];
                assert!(causes.iter().any(|cause| error.contains(cause)), "byte {at}: {error}");
            }
            for damaged in [&part[..0], &part[..1], &part[..258], &part[..part.len() - 1]] {
                home.does_not_load(&mut probe, &[damaged]);
            }
            assert_eq!(token.calls("C_Decrypt"), opened, "nothing is unwrapped unverified");
            // An additional invalid part does not affect the valid one.
            assert_eq!(home.load(&mut probe, &[&part[..258], &part]), [FIRST]);
            assert!(probe.stderr().is_empty(), "{}", probe.stderr());
        }
    }
}

fn what_another_one_keeps_is_refused(home: &Home) {
    let other = home.other();
    let part = other.keep_and_commit(&mut other.probe(), FIRST);
    other.move_disk_to(home);
    let error = home.does_not_load(&mut home.probe(), &[&part]);
    let cause = match home {
        Home::Tpm { .. } => "does not open: ",
        Home::Hsm { .. } => "it was made with another token or key, or is forged; ",
    };
    assert!(error.contains(cause) && error.contains("psictl cache recover"), "{error}");
}

fn without_a_key_it_is_told_what_to_do(home: &Home) {
    let error = home.does_not_load(&mut home.probe(), &[]);
    let backend = match home {
        Home::Tpm { .. } => "tpm",
        Home::Hsm { .. } => "hsm",
    };
    assert!(error.starts_with("there is no key: "), "{error}");
    assert!(error.ends_with(&format!("; create one with `psictl cache init --backend {backend}`")));
}
