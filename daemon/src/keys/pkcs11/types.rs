//! What a token and its key report of themselves.

use std::fmt;

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::slot::TokenInfo;

use super::error::TokenError;

/// A token and the key that psi uses.
#[derive(Clone, Debug)]
pub struct TokenDescription {
    /// The token's label.
    pub label: String,
    /// Its manufacturer.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// The version of its firmware, `MAJOR.MINOR`.
    pub firmware: String,
    /// The id of the slot that it is in.
    pub slot: u64,
    /// What it reports of its PIN.
    pub pin: PinStatus,
    /// The mechanisms for psi that it lists.
    pub mechanisms: Mechanisms,
    /// The key, or why it is not visible, for example without a login.
    pub key: Result<KeyDescription, TokenError>,
}

/// A private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDescription {
    /// Its label.
    pub label: String,
    /// Its `CKA_ID` in hex.
    pub id: String,
    /// Bits of its modulus.
    pub bits: usize,
    /// `CKA_DECRYPT`
    pub may_decrypt: bool,
    /// `CKA_SIGN`
    pub may_sign: bool,
    /// The RSA decryption that it supports.
    pub unwrapping: Unwrapping,
}

/// The mechanisms for psi, as the token lists them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mechanisms {
    /// `CKM_RSA_PKCS_OAEP`, with any hash.
    pub rsa_oaep: bool,
    /// `CKM_RSA_X_509`: RSA without padding.
    pub rsa_raw: bool,
    /// `CKM_SHA256_RSA_PKCS`
    pub sha256_rsa_pkcs: bool,
}

/// The decryption that a key supports; psi requires the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwrapping {
    /// RSA-OAEP with SHA-256.
    OaepSha256,
    /// RSA-OAEP with SHA-1 and nothing better.
    OaepSha1,
    /// RSA without padding.
    Raw,
    /// None that psi knows.
    No,
}

/// The state of the user PIN, as the token reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinStatus {
    /// No wrong PIN was given.
    Good,
    /// A wrong PIN was given since the last login.
    CountLow,
    /// The next wrong PIN locks it.
    FinalTry,
    /// It is locked.
    Locked,
    /// No PIN is set yet.
    NotSet,
}

impl Unwrapping {
    /// RSA-OAEP with SHA-256 and MGF1-SHA-256, without a label.
    pub(super) fn oaep_sha256() -> Mechanism<'static> {
        oaep(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256)
    }

    /// RSA-OAEP with SHA-1 and MGF1-SHA-1, without a label.
    pub(super) fn oaep_sha1() -> Mechanism<'static> {
        oaep(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1)
    }
}

fn oaep(hash: MechanismType, mask: PkcsMgfType) -> Mechanism<'static> {
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty()))
}

impl fmt::Display for Unwrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OaepSha256 => "it does RSA-OAEP with SHA-256",
            Self::OaepSha1 => "it does RSA-OAEP with SHA-1 only",
            Self::Raw => "it does RSA without padding only (CKM_RSA_X_509)",
            Self::No => "it does not decrypt at all",
        })
    }
}

impl PinStatus {
    pub(super) fn of(info: &TokenInfo) -> Self {
        if info.user_pin_locked() {
            Self::Locked
        } else if !info.user_pin_initialized() {
            Self::NotSet
        } else if info.user_pin_final_try() {
            Self::FinalTry
        } else if info.user_pin_count_low() {
            Self::CountLow
        } else {
            Self::Good
        }
    }

    /// Why no login may be tried now.
    pub(super) fn objection(self) -> Option<TokenError> {
        match self {
            Self::Good | Self::CountLow => None,
            Self::Locked => Some(Self::locked()),
            Self::NotSet => Some(TokenError::pin(
                "the token has no user PIN yet",
                "set one with `pkcs11-tool --login --login-type so --init-pin`",
            )),
            Self::FinalTry => Some(TokenError::pin(
                "the next wrong PIN would lock the token, so psid tries none",
                "log in once with the right one, `pkcs11-tool --login -O`, which resets the token's \
                 counter; store that PIN where psid reads it, and `systemctl reload psid`",
            )),
        }
    }

    pub(super) fn locked() -> TokenError {
        TokenError::pin(
            "the token's user PIN is locked (CKR_PIN_LOCKED)",
            "unlock it with the SO PIN, `pkcs11-tool --login --login-type so --init-pin`; then \
             `psictl hsm preflight --retry`",
        )
    }
}
