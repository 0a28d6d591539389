//! The token and its key, for people.

use std::fmt;

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::slot::TokenInfo;

use super::error::TokenError;
use super::keys::hex;
use super::library::label_of;
use super::session::{Connection, Trouble};

/// A token and the key that psi uses on it.
#[derive(Clone, Debug)]
pub struct TokenDescription {
    /// The token's label.
    pub label: String,
    /// Who made it.
    pub manufacturer: String,
    /// What it is.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Its firmware's version, `MAJOR.MINOR`.
    pub firmware: String,
    /// The id of the slot that it is in.
    pub slot: u64,
    /// How near its PIN is to being locked.
    pub pin: PinStatus,
    /// What it lists of what psi uses.
    pub mechanisms: Mechanisms,
    /// The key; or why it cannot be seen, as when there is no login.
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
    /// The RSA step that it can do for psi.
    pub unwrapping: Unwrapping,
}

/// The mechanisms that matter, as the token lists them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mechanisms {
    /// `CKM_RSA_PKCS_OAEP`, with whatever hash.
    pub rsa_oaep: bool,
    /// `CKM_RSA_X_509`: RSA without a padding.
    pub rsa_raw: bool,
    /// `CKM_SHA256_RSA_PKCS`
    pub sha256_rsa_pkcs: bool,
}

/// How a key undoes a wrapping; the first is what psi needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwrapping {
    /// RSA-OAEP with SHA-256.
    OaepSha256,
    /// RSA-OAEP with SHA-1 and nothing better.
    OaepSha1,
    /// RSA without a padding.
    Raw,
    /// In no way that psi knows.
    No,
}

/// What the token says of its user PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinStatus {
    /// Nothing.
    Good,
    /// A wrong one was given since the last right one.
    CountLow,
    /// The next wrong one locks it.
    FinalTry,
    /// It is locked.
    Locked,
    /// There is none yet.
    NotSet,
}

impl Connection {
    /// The token as anybody sees it; its key takes a login.
    pub(super) fn describe(&mut self) -> Result<TokenDescription, Trouble> {
        let info = self.token_info()?;
        let version = info.firmware_version();
        Ok(TokenDescription {
            label: label_of(&info).into(),
            manufacturer: info.manufacturer_id().into(),
            model: info.model().into(),
            serial: info.serial_number().into(),
            firmware: format!("{}.{}", version.major(), version.minor()),
            slot: self.slot.id(),
            pin: PinStatus::of(&info),
            mechanisms: self.mechanisms()?,
            key: Err(TokenError::absent("nobody is logged in", "log in")),
        })
    }

    /// The key; the user is logged in.
    pub(super) fn describe_key(&mut self) -> Result<KeyDescription, Trouble> {
        let key = self.private_key()?;
        let mut described = KeyDescription {
            label: String::new(),
            id: String::new(),
            bits: self.public_key()?.bits(),
            may_decrypt: false,
            may_sign: false,
            unwrapping: self.unwrapping(key)?,
        };
        let wanted =
            [AttributeType::Label, AttributeType::Id, AttributeType::Decrypt, AttributeType::Sign];
        for attribute in self.attributes(key, &wanted)? {
            match attribute {
                Attribute::Label(label) => {
                    described.label = String::from_utf8_lossy(&label).into_owned();
                }
                Attribute::Id(id) => described.id = hex(&id),
                Attribute::Decrypt(may) => described.may_decrypt = may,
                Attribute::Sign(may) => described.may_sign = may,
                _ => {}
            }
        }
        Ok(described)
    }

    fn mechanisms(&self) -> Result<Mechanisms, Trouble> {
        let listed =
            self.board.during("C_GetMechanismList", || self.pkcs11.get_mechanism_list(self.slot));
        let listed = listed.map_err(|error| Trouble::of_call("C_GetMechanismList", &error))?;
        Ok(Mechanisms {
            rsa_oaep: listed.contains(&MechanismType::RSA_PKCS_OAEP),
            rsa_raw: listed.contains(&MechanismType::RSA_X_509),
            sha256_rsa_pkcs: listed.contains(&MechanismType::SHA256_RSA_PKCS),
        })
    }

    /// What the key does, found by trying: the list of mechanisms does not tell the hashes.
    pub(super) fn unwrapping(&self, key: ObjectHandle) -> Result<Unwrapping, Trouble> {
        let found = if self.begins(&Unwrapping::oaep_sha256(), key)? {
            Unwrapping::OaepSha256
        } else if self.begins(&oaep(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1), key)? {
            Unwrapping::OaepSha1
        } else if self.begins(&Mechanism::RsaX509, key)? {
            Unwrapping::Raw
        } else {
            Unwrapping::No
        };
        Ok(found)
    }

    /// Whether a decryption can be begun. In a session of its own, with which the operation ends.
    fn begins(&self, mechanism: &Mechanism<'_>, key: ObjectHandle) -> Result<bool, Trouble> {
        let session = self.board.during("C_OpenSession", || self.pkcs11.open_ro_session(self.slot));
        let session = session.map_err(|error| Trouble::of_call("C_OpenSession", &error))?;
        let begun = self.board.during("C_DecryptInit", || session.decrypt_init(mechanism, key));
        self.board.during("C_CloseSession", || drop(session));
        Ok(begun.is_ok())
    }
}

impl Unwrapping {
    /// RSA-OAEP with SHA-256 and MGF1-SHA-256, without a label.
    pub(super) fn oaep_sha256() -> Mechanism<'static> {
        oaep(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256)
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
            Self::Raw => "it does RSA without a padding only (CKM_RSA_X_509)",
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

    /// Why no PIN may be tried now.
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
                 count; put that one where psid reads it, and `systemctl reload psid`",
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
