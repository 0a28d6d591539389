//! The files of the Python PSI (`tests/vectors/python-psi`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::{Config, Driver, FakeInfisical, Instance, repository};

/// Its secret that the token sealed and that no cache has.
pub const SEALED: &str = "36f34945849c779b9bfe26588";

/// A file of the Python PSI.
pub fn python_psi(name: &str) -> PathBuf {
    repository().join("tests/vectors/python-psi").join(name)
}

/// The value of each id.
pub fn expected() -> BTreeMap<String, Vec<u8>> {
    let text = fs::read_to_string(python_psi("expected.json")).unwrap();
    let encoded: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    encoded.into_iter().map(|(id, value)| (id, STANDARD.decode(value).unwrap())).collect()
}

/// The value of each cached id.
pub fn cached() -> BTreeMap<String, Vec<u8>> {
    expected().into_iter().filter(|(id, _)| id != SEALED).collect()
}

/// An instance with the fixture's key and an unreachable provider.
pub fn instance_in_an_outage() -> Instance {
    let mut infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).timeout("1s"));
    infisical.kill();
    instance.give_key(&fs::read(python_psi("psi-cache-key")).unwrap());
    instance
}

/// Copies the Python PSI's state to a directory: `cache.enc` among the mappings.
pub fn leave_in(directory: &Path, cache: &str) {
    leave_mappings_in(directory);
    fs::copy(python_psi(cache), directory.join("cache.enc")).unwrap();
}

/// Copies the mappings alone to a directory.
pub fn leave_mappings_in(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for file in fs::read_dir(python_psi("secrets")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
}

/// `psictl migrate --from psi --cache` with the instance's credentials; the last argument is the
/// directory.
pub fn adopt(instance: &Instance, args: &[&str]) -> Driver {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let (directory, args) = args.split_last().unwrap();
    let call = [&["migrate", "--from", "psi", "--cache"], args, &["--state", directory]].concat();
    instance.driver(&call).env("CREDENTIALS_DIRECTORY", instance.credentials()).env("PATH", path)
}
