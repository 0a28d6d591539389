//! The files and credentials that a config names.

use std::path::PathBuf;

use super::{AuthConfig, Config, Pkcs11Pin, SecretLocation};

/// A file that psid must be able to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedFile {
    /// The key of the config that names it.
    pub(crate) key: &'static str,
    /// Its path.
    pub(crate) path: PathBuf,
}

impl Config {
    /// The files that the config names, each once.
    pub(crate) fn named_files(&self) -> Vec<NamedFile> {
        let mut all = Vec::new();
        let mut add = |key, path: &PathBuf| {
            let file = NamedFile { key, path: path.clone() };
            if !all.contains(&file) {
                all.push(file);
            }
        };
        if let Some(path) = self.infisical.as_ref().and_then(|infisical| infisical.ca_cert.as_ref())
        {
            add("ca_cert", path);
        }
        for auth in self.logins() {
            for (key, path) in auth.files() {
                add(key, path);
            }
        }
        if let Some(pkcs11) = &self.pkcs11 {
            add("pkcs11_module", &pkcs11.module);
            if let Pkcs11Pin::File(path) = &pkcs11.pin {
                add("pin_file", path);
            }
        }
        all
    }

    /// The names of the credentials that the config names, each once.
    pub(crate) fn named_credentials(&self) -> Vec<&str> {
        let mut all = Vec::new();
        for auth in self.logins() {
            if let Some(SecretLocation::Credential(name)) = auth.secret()
                && !all.contains(&name.as_str())
            {
                all.push(name);
            }
        }
        if let Some(Pkcs11Pin::Credential(name)) = self.pkcs11.as_ref().map(|pkcs11| &pkcs11.pin) {
            all.push(name);
        }
        all
    }

    /// How psid logs in for each project.
    pub(crate) fn logins(&self) -> impl Iterator<Item = &AuthConfig> {
        let projects = self.infisical.iter().flat_map(|infisical| infisical.projects.values());
        projects.map(|project| &project.auth)
    }
}
