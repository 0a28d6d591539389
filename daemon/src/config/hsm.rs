//! `[providers.nitrokeyhsm]`: which token, which key on it, and where its PIN is.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::raw::{Fault, credential_name};
use crate::keys::pkcs11::{KeyChoice, TokenChoice};

/// `[providers.nitrokeyhsm]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsmConfig {
    /// The PKCS#11 module, an absolute path.
    pub module: PathBuf,
    /// Which of its tokens.
    pub token: TokenChoice,
    /// Which key of the token.
    pub key: KeyChoice,
    /// Where the user PIN is.
    pub pin: HsmPin,
}

/// Where the user PIN is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HsmPin {
    /// A systemd credential's name.
    Credential(String),
    /// A file.
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHsm {
    pkcs11_module: Spanned<PathBuf>,
    token_label: Option<String>,
    slot: Option<u64>,
    key_label: Option<String>,
    key_id: Option<Spanned<String>>,
    pin_credential: Option<Spanned<String>>,
    pin_file: Option<PathBuf>,
}

/// The label that the README's commands give to the key.
const KEY_LABEL: &str = "podman-secrets";

impl RawHsm {
    /// Checks it; `at` is where its table begins.
    pub(super) fn check(self, at: usize) -> Result<HsmConfig, Fault> {
        let fault = |what: &str| Fault { at: Some(at), what: what.into() };
        let module = self.pkcs11_module;
        if !module.get_ref().is_absolute() {
            // dlopen would search the library path, which others may have a say in.
            let what = "pkcs11_module must be an absolute path".into();
            return Err(Fault { at: Some(module.span().start), what });
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
            (Some(name), None) => HsmPin::Credential(credential_name(&name, "pin_credential")?),
            (None, Some(path)) => HsmPin::File(path),
            _ => return Err(fault("give exactly one of pin_credential and pin_file")),
        };
        Ok(HsmConfig { module: module.into_inner(), token, key, pin })
    }
}

/// Bytes in hex, as `pkcs11-tool --id` has them.
fn check_id(text: &Spanned<String>) -> Result<Vec<u8>, Fault> {
    let digits = text.get_ref().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    bytes.filter(|_| is_hex && !digits.is_empty() && digits.len().is_multiple_of(2)).ok_or_else(
        || Fault {
            at: Some(text.span().start),
            what: format!("key_id '{}' is not bytes in hex, like \"02\"", text.get_ref()),
        },
    )
}
