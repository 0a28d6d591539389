//! PKCS#11 tokens in software, each a test's own: Kryoptic, which does all that psi needs, and SoftHSM,
//! which does RSA-OAEP with SHA-1 only. In front of each is a module that hangs, fails and vanishes as it
//! is told (`tests/faulty-token`), and that counts the calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::programs::{program, repository, target_folder};
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
    folder: TempDir,
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
        let folder = tempfile::Builder::new().prefix("token-").tempdir_in("/tmp").unwrap();
        for name in ["storage", "faults"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let token = Self { kind, folder };
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

    /// Lines of `[providers.pkcs11]`, with their heading.
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

    /// What a process needs in its environment to have this token.
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        let (name, real) = match self.kind {
            Kind::Kryoptic => ("KRYOPTIC_CONF", kryoptic()),
            Kind::SoftHsm => ("SOFTHSM2_CONF", "/usr/lib/softhsm/libsofthsm2.so".into()),
        };
        [
            (name, self.path("config")),
            ("FAULTY_TOKEN_MODULE", real),
            ("FAULTY_TOKEN_FOLDER", self.path("faults")),
        ]
    }

    /// Kryoptic's module itself.
    pub fn kryoptic_module() -> PathBuf {
        kryoptic()
    }

    /// The directory with the token's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A psid that has this token.
    pub fn on(&self, start: Start) -> Start {
        self.environment().iter().fold(start, |start, (name, value)| start.env(name, value))
    }

    /// The file in which psid finds the PIN.
    pub fn pin_file(&self) -> PathBuf {
        self.path("pin")
    }

    /// Puts another PIN where psid finds it; the token's own stays.
    pub fn give_pin(&self, pin: &str) {
        fs::write(self.pin_file(), pin).unwrap();
    }

    /// Gives the token another PIN; what is made with the old one must be made before.
    pub fn change_pin(&self, pin: &str) {
        self.user_tool(&["--change-pin", "--new-pin", pin]);
    }

    /// Out of its slot.
    pub fn pull_out(&self) {
        self.spoil("pulled", "");
    }

    /// In again. As with a real one, a session that was open is of no use any more.
    pub fn put_back(&self) {
        self.mend("pulled");
    }

    /// Moves away what the token keeps: nothing is in its slot for whoever starts now.
    pub fn lose_storage(&self) {
        fs::rename(self.storage(), self.path("elsewhere")).unwrap();
        fs::create_dir(self.storage()).unwrap();
    }

    /// Takes that back.
    pub fn find_storage(&self) {
        fs::remove_dir_all(self.storage()).unwrap();
        fs::rename(self.path("elsewhere"), self.storage()).unwrap();
    }

    /// Makes a fault, as `tests/faulty-token` lists them.
    pub fn spoil(&self, fault: &str, how: &str) {
        fs::write(self.path("faults").join(fault), how).unwrap();
    }

    /// Ends a fault.
    pub fn mend(&self, fault: &str) {
        fs::remove_file(self.path("faults").join(fault)).unwrap();
    }

    /// How often a function of the module was called.
    pub fn calls(&self, name: &str) -> usize {
        let calls = fs::read_to_string(self.path("faults/calls")).unwrap_or_default();
        calls.lines().filter(|call| *call == name).count()
    }

    /// The flags of `CK_TOKEN_INFO` and what else `pkcs11-tool -L` tells.
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
        self.folder.path().join(name)
    }
}

/// The module that is in front of each token.
fn module() -> PathBuf {
    program("libfaulty_token.so")
}

fn kryoptic() -> PathBuf {
    let module = target_folder().join("kryoptic/release/libkryoptic_pkcs11.so");
    assert!(module.exists(), "{} is missing: run `make deps` first", module.display());
    module
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let told =
        [output.stdout, output.stderr].map(|told| String::from_utf8_lossy(&told).into_owned());
    assert!(output.status.success(), "{command:?}: {}", told.concat());
    told.concat()
}
