//! The files of one psi: config, state, credentials and socket in a directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::config::Config;
use super::driver::Driver;
use super::fake_infisical::{CLIENT_SECRET, FakeInfisical};
use super::ids::{id, reference};
use super::psid::{Psid, Start};

/// The systemd credential with psid's key.
const KEY_CREDENTIAL: &str = "psi-cache-key";
/// The credential with the client secret of the config's identity.
const SECRET_CREDENTIAL: &str = "infisical-client-secret";

/// A directory with `etc`, `state`, `cred` and `run`; it is removed with the value.
pub struct Instance {
    directory: TempDir,
}

impl Instance {
    /// An empty instance: no config, no key.
    pub fn empty() -> Self {
        // A socket's path has fewer than 108 bytes.
        let directory = tempfile::Builder::new().prefix("psi-").tempdir_in("/tmp").unwrap();
        for name in ["etc", "cred", "run"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        // Other users must be able to reach the socket.
        for path in [directory.path().to_owned(), directory.path().join("run")] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        Self { directory }
    }

    /// An instance with a key, the client secret, and a config for `fake`.
    pub fn of(infisical: &FakeInfisical) -> Self {
        let instance = Self::empty();
        instance.configure(&Config::of(infisical));
        instance.give_key(&[7; 32]);
        instance.give_client_secret(CLIENT_SECRET);
        instance
    }

    /// The whole directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.directory().join("etc/config.toml")
    }

    /// The sealed key of the tpm backend.
    pub fn sealed_key(&self) -> PathBuf {
        self.directory().join("etc/cache.key")
    }

    /// The state directory; psid creates it.
    pub fn state(&self) -> PathBuf {
        self.directory().join("state")
    }

    /// The encrypted cache.
    pub fn cache(&self) -> PathBuf {
        self.state().join("cache.enc")
    }

    /// The credentials directory.
    pub fn credentials(&self) -> PathBuf {
        self.directory().join("cred")
    }

    /// The text of a registered reference, as podman passed it, without psid's own line.
    #[track_caller]
    pub fn registered(&self, id: &str) -> Vec<u8> {
        let file = fs::read(self.state().join("secrets").join(id)).unwrap();
        let line = format!("psi-reference 1 {id} ");
        assert!(file.starts_with(line.as_bytes()), "{}", String::from_utf8_lossy(&file));
        let end = file.iter().position(|byte| *byte == b'\n').unwrap();
        file[end + 1..].to_vec()
    }

    /// Sockets.
    pub fn run(&self) -> PathBuf {
        self.directory().join("run")
    }

    /// Ends the memory of refused logins and PINs, as a reboot does.
    pub fn forget_refusals(&self) {
        match fs::remove_file(self.run_directory().join("refusals.json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }

    /// What psid keeps in RAM; psid makes it.
    pub fn run_directory(&self) -> PathBuf {
        self.directory().join("psid")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("psid.sock")
    }

    /// The socket of the users that workloads name; it exists once psid was started
    /// [with it](Start::with_users_socket).
    pub fn users_socket(&self) -> PathBuf {
        self.run().join("users.sock")
    }

    /// Writes the config.
    pub fn configure(&self, config: &Config) {
        fs::write(self.config(), config.to_string()).unwrap();
    }

    /// Provides a key as systemd does: as an opened credential.
    pub fn give_key(&self, key: &[u8]) {
        fs::write(self.credentials().join(KEY_CREDENTIAL), key).unwrap();
    }

    /// Removes the key.
    pub fn take_key(&self) {
        fs::remove_file(self.credentials().join(KEY_CREDENTIAL)).unwrap();
    }

    /// Provides the identity's client secret.
    pub fn give_client_secret(&self, secret: &str) {
        fs::write(self.credentials().join(SECRET_CREDENTIAL), secret).unwrap();
    }

    /// Removes the identity's client secret.
    pub fn take_client_secret(&self) {
        fs::remove_file(self.credentials().join(SECRET_CREDENTIAL)).unwrap();
    }

    /// A psid that is not started yet.
    pub fn psid(&self) -> Start {
        Start::new(self)
    }

    /// A psid that is ready.
    #[track_caller]
    pub fn start(&self) -> Psid {
        self.psid().start()
    }

    /// A psi-driver call that is not made yet.
    pub fn driver(&self, args: &[&str]) -> Driver {
        Driver::new(self, args)
    }

    /// Stores a reference to the key A of `/myapp` under the id 1, looks it up, and waits until its value is on the
    /// disk; returns the file's generation. psid's cache must be empty.
    #[track_caller]
    pub fn persist_reference(&self, psid: &Psid) -> u64 {
        self.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
        self.driver(&["lookup"]).id(id(1)).ok();
        psid.await_generation_after(0)
    }

    /// The files in the state directory that were set aside, by name.
    pub fn set_aside(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = fs::read_dir(self.state())
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("cache.enc.bad-"))
            .collect();
        found.sort();
        found
    }
}
