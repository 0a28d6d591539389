//! `[providers.pkcs11]`: the token, its key, and the source of its PIN.

use std::path::PathBuf;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Deserialize;
use toml::Spanned;

use super::fault::{Fault, credential_name};
use crate::keys::pkcs11::{KeyChoice, TokenChoice};

/// `[providers.pkcs11]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Config {
    /// The PKCS#11 module, an absolute path.
    pub module: PathBuf,
    /// The token.
    pub token: TokenChoice,
    /// The key on the token.
    pub key: KeyChoice,
    /// The source of the user PIN.
    pub pin: Pkcs11Pin,
}

/// The source of the user PIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pkcs11Pin {
    /// A systemd credential's name.
    Credential(String),
    /// A file.
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPkcs11 {
    pkcs11_module: Spanned<PathBuf>,
    token_label: Option<String>,
    slot: Option<u64>,
    key_label: Option<String>,
    key_id: Option<Spanned<String>>,
    pin_credential: Option<Spanned<String>>,
    pin_file: Option<PathBuf>,
}

/// The label that the documented commands give to the key.
const KEY_LABEL: &str = "podman-secrets";

impl RawPkcs11 {
    /// Checks it; `at` is where its table begins.
    pub(super) fn check(self, at: usize) -> Result<Pkcs11Config, Fault> {
        let fault = |what: &str| Fault::at(at, what);
        let module = self.pkcs11_module;
        if !module.get_ref().is_absolute() {
            // dlopen would search the library path.
            return Err(Fault::of(&module, "pkcs11_module must be an absolute path"));
        }
        let token = match (self.token_label, self.slot) {
            (Some(label), None) => TokenChoice::Label(label),
            (None, Some(slot)) => TokenChoice::Slot(slot),
            _ => return Err(fault("give exactly one of token_label and slot")),
        };
        let key = match (self.key_label, self.key_id) {
            (Some(_), Some(_)) => return Err(fault("give at most one of key_label and key_id")),
            (None, Some(id)) => KeyChoice::Id(check_id(&id)?),
            (label, None) => KeyChoice::Label(label.unwrap_or_else(|| KEY_LABEL.into())),
        };
        let pin = match (self.pin_credential, self.pin_file) {
            (Some(name), None) => Pkcs11Pin::Credential(credential_name(&name, "pin_credential")?),
            (None, Some(path)) => Pkcs11Pin::File(path),
            _ => return Err(fault("give exactly one of pin_credential and pin_file")),
        };
        Ok(Pkcs11Config { module: module.into_inner(), token, key, pin })
    }
}

/// Bytes in hex, as `pkcs11-tool --id` takes them.
pub(super) fn check_id(text: &Spanned<String>) -> Result<Vec<u8>, Fault> {
    let digits = text.get_ref();
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
    bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        Fault::of(text, format!("key_id '{digits}' is not bytes in hex, like \"02\""))
    })
}
