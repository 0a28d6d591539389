//! Software PKCS#11 tokens, one per test: Kryoptic, which supports everything that psi needs, and
//! SoftHSM, which supports RSA-OAEP with SHA-1 only. Each is behind a module that hangs, fails and
//! disappears on request (`tests/faulty-token`), and counts the calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::programs::{program, repository, target_directory};
use super::psid::Start;

/// The PIN of every token here.
pub const PIN: &str = "12345678";
const SO_PIN: &str = "87654321";
/// The label and the id of the key.
const KEY_LABEL: &str = "podman-secrets";
const KEY_ID: &str = "02";

/// A token with the label `psi`.
pub struct Token {
    kind: Kind,
    directory: TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kryoptic,
    SoftHsm,
}

impl Token {
    /// Kryoptic, with an RSA key.
    pub fn kryoptic() -> Self {
        let token = Self::empty(Kind::Kryoptic);
        token.generate_key(KEY_LABEL, KEY_ID, &["--usage-decrypt", "--usage-sign"]);
        token
    }

    /// Kryoptic, with the key that wrapped the files in `tests/vectors/python-psi`.
    pub fn of_the_vectors() -> Self {
        let token = Self::without_key();
        let pem = repository().join("tests/vectors/python-psi/hsm-key.pem");
        token.import_key(&pem, KEY_LABEL, KEY_ID);
        token
    }

    /// Kryoptic, without a key.
    pub fn without_key() -> Self {
        Self::empty(Kind::Kryoptic)
    }

    /// SoftHSM, with an RSA key.
    pub fn softhsm() -> Self {
        let token = Self::empty(Kind::SoftHsm);
        token.generate_key(KEY_LABEL, KEY_ID, &["--usage-decrypt", "--usage-sign"]);
        token
    }

    fn empty(kind: Kind) -> Self {
        let directory = tempfile::Builder::new().prefix("token-").tempdir_in("/tmp").unwrap();
        for name in ["storage", "faults"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let token = Self { kind, directory };
        let storage = token.storage();
        let config = match kind {
            Kind::Kryoptic => format!(
                "[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{}/token.sql\"\n",
                storage.display()
            ),
            Kind::SoftHsm => format!("directories.tokendir = {}\n", storage.display()),
        };
        fs::write(token.path("config"), config).unwrap();
        fs::write(token.pin_file(), PIN).unwrap();
        let init = ["--init-token", "--label", "psi", "--so-pin", SO_PIN];
        match kind {
            Kind::Kryoptic => token.tool(&[&init[..], &["--slot", "1"]].concat()),
            Kind::SoftHsm => token.tool(&[&init[..], &["--slot-index", "0"]].concat()),
        };
        token.tool(&[
            "--token-label",
            "psi",
            "--login",
            "--login-type",
            "so",
            "--so-pin",
            SO_PIN,
            "--init-pin",
            "--pin",
            PIN,
        ]);
        token
    }

    /// Makes an RSA key of 2048 bits.
    pub fn generate_key(&self, label: &str, id: &str, usages: &[&str]) {
        let make = ["--keypairgen", "--key-type", "rsa:2048", "--label", label, "--id", id];
        self.user_tool(&[&make[..], usages].concat());
    }

    /// Writes an RSA key to the token, which may sign and decrypt.
    pub fn import_key(&self, pem: &Path, label: &str, id: &str) {
        let der = self.path("key.der");
        let public = self.path("public.der");
        run(Command::new("openssl")
            .args(["rsa", "-outform", "DER", "-in"])
            .arg(pem)
            .arg("-out")
            .arg(&der));
        run(Command::new("openssl")
            .args(["rsa", "-pubout", "-outform", "DER", "-in"])
            .arg(pem)
            .arg("-out")
            .arg(&public));
        for (kind, file) in [("privkey", &der), ("pubkey", &public)] {
            let file = file.to_str().unwrap();
            self.user_tool(&[
                "--write-object",
                file,
                "--type",
                kind,
                "--label",
                label,
                "--id",
                id,
                "--usage-decrypt",
                "--usage-sign",
            ]);
        }
        fs::remove_file(der).unwrap();
    }

    /// The table `[providers.pkcs11]`.
    pub fn config(&self) -> String {
        format!(
            "[providers.pkcs11]\npkcs11_module = \"{}\"\ntoken_label = \"psi\"\n\
             key_label = \"{KEY_LABEL}\"\npin_file = \"{}\"\n",
            module().display(),
            self.pin_file().display()
        )
    }

    /// The same for a probe.
    pub fn setup(&self) -> Value {
        json!({ "module": module(), "label": "psi", "pin_file": self.pin_file(), "run": self.path("run") })
    }

    /// The variables that a process needs to use this token.
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        let (name, real) = match self.kind {
            Kind::Kryoptic => ("KRYOPTIC_CONF", kryoptic()),
            Kind::SoftHsm => ("SOFTHSM2_CONF", "/usr/lib/softhsm/libsofthsm2.so".into()),
        };
        [
            (name, self.path("config")),
            ("FAULTY_TOKEN_MODULE", real),
            ("FAULTY_TOKEN_DIRECTORY", self.path("faults")),
        ]
    }

    /// Kryoptic's module itself.
    pub fn kryoptic_module() -> PathBuf {
        kryoptic()
    }

    /// The directory with the token's files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A psid that has this token.
    pub fn on(&self, start: Start) -> Start {
        self.environment().iter().fold(start, |start, (name, value)| start.env(name, value))
    }

    /// The file with the PIN.
    pub fn pin_file(&self) -> PathBuf {
        self.path("pin")
    }

    /// Changes the PIN file; the token's PIN is unchanged.
    pub fn give_pin(&self, pin: &str) {
        fs::write(self.pin_file(), pin).unwrap();
    }

    /// Changes the token's PIN; objects that need the old one must be made before.
    pub fn change_pin(&self, pin: &str) {
        self.user_tool(&["--change-pin", "--new-pin", pin]);
    }

    /// Removes the token from its slot.
    pub fn pull_out(&self) {
        self.break_with("pulled", "");
    }

    /// Inserts the token again. As with a real one, an open session is no longer valid.
    pub fn put_back(&self) {
        self.repair("pulled");
    }

    /// Moves the token's storage away: processes that start now find no token.
    pub fn lose_storage(&self) {
        fs::rename(self.storage(), self.path("elsewhere")).unwrap();
        fs::create_dir(self.storage()).unwrap();
    }

    /// Moves the storage back.
    pub fn find_storage(&self) {
        fs::remove_dir_all(self.storage()).unwrap();
        fs::rename(self.path("elsewhere"), self.storage()).unwrap();
    }

    /// Makes a fault; `tests/faulty-token` lists them.
    pub fn break_with(&self, fault: &str, how: &str) {
        fs::write(self.path("faults").join(fault), how).unwrap();
    }

    /// Ends a fault.
    pub fn repair(&self, fault: &str) {
        fs::remove_file(self.path("faults").join(fault)).unwrap();
    }

    /// The number of calls of a function of the module.
    pub fn calls(&self, name: &str) -> usize {
        let calls = fs::read_to_string(self.path("faults/calls")).unwrap_or_default();
        calls.lines().filter(|call| *call == name).count()
    }

    /// The output of `pkcs11-tool -L`, with the flags of `CK_TOKEN_INFO`.
    pub fn listing(&self) -> String {
        self.tool(&["-L"])
    }

    /// `pkcs11-tool` as the user, with the right PIN; its output.
    pub fn user_tool(&self, args: &[&str]) -> String {
        let login = ["--token-label", "psi", "--login", "--pin", PIN];
        self.tool(&[&login[..], args].concat())
    }

    fn tool(&self, args: &[&str]) -> String {
        let [config, (_, real), _] = self.environment();
        let mut tool = Command::new("pkcs11-tool");
        tool.arg("--module").arg(real).args(args).env(config.0, config.1);
        run(&mut tool)
    }

    fn storage(&self) -> PathBuf {
        self.path("storage")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The module in front of each token.
fn module() -> PathBuf {
    program("libfaulty_token.so")
}

fn kryoptic() -> PathBuf {
    let module = target_directory().join("kryoptic/release/libkryoptic_pkcs11.so");
    assert!(module.exists(), "{} is missing: run `make deps` first", module.display());
    module
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = [output.stdout, output.stderr]
        .map(|printed| String::from_utf8_lossy(&printed).into_owned());
    assert!(output.status.success(), "{command:?}: {}", printed.concat());
    printed.concat()
}
