//! Descriptions of the token and its key, for the status.

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use data_encoding::HEXLOWER;

use super::error::TokenError;
use super::library::label_of;
use super::session::{JobError, Session};
use super::types::{KeyDescription, Mechanisms, PinStatus, TokenDescription, Unwrapping};

impl Session {
    /// Describes the token without a login; its key requires one.
    pub(super) fn describe(&mut self) -> Result<TokenDescription, JobError> {
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
            key: Err(TokenError::absent("no user is logged in", "log in")),
        })
    }

    /// Describes the key; requires a login.
    pub(super) fn describe_key(&mut self) -> Result<KeyDescription, JobError> {
        let key = self.private_key()?;
        let mut described = KeyDescription {
            label: String::new(),
            id: String::new(),
            bits: self.public_key()?.bits(),
            may_decrypt: false,
            may_sign: false,
            unwrapping: self.unwrapping(key)?,
        };
        let types =
            [AttributeType::Label, AttributeType::Id, AttributeType::Decrypt, AttributeType::Sign];
        for attribute in self.attributes(key, &types)? {
            match attribute {
                Attribute::Label(label) => {
                    described.label = String::from_utf8_lossy(&label).into_owned();
                }
                Attribute::Id(id) => described.id = HEXLOWER.encode(&id),
                Attribute::Decrypt(may) => described.may_decrypt = may,
                Attribute::Sign(may) => described.may_sign = may,
                _ => {}
            }
        }
        Ok(described)
    }

    fn mechanisms(&self) -> Result<Mechanisms, JobError> {
        let listed =
            self.monitor.watch("C_GetMechanismList", || self.pkcs11.get_mechanism_list(self.slot));
        let listed = listed.map_err(|error| JobError::of_call("C_GetMechanismList", &error))?;
        Ok(Mechanisms {
            rsa_oaep: listed.contains(&MechanismType::RSA_PKCS_OAEP),
            rsa_raw: listed.contains(&MechanismType::RSA_X_509),
            sha256_rsa_pkcs: listed.contains(&MechanismType::SHA256_RSA_PKCS),
        })
    }

    /// Finds by trial what the key supports: the list of mechanisms does not name the hashes.
    pub(super) fn unwrapping(&self, key: ObjectHandle) -> Result<Unwrapping, JobError> {
        let found = if self.can_start(&Unwrapping::oaep_sha256(), key)? {
            Unwrapping::OaepSha256
        } else if self.can_start(&Unwrapping::oaep_sha1(), key)? {
            Unwrapping::OaepSha1
        } else if self.can_start(&Mechanism::RsaX509, key)? {
            Unwrapping::Raw
        } else {
            Unwrapping::No
        };
        Ok(found)
    }

    /// Whether a decryption can be started. Uses a separate session, whose end cancels the operation.
    fn can_start(&self, mechanism: &Mechanism<'_>, key: ObjectHandle) -> Result<bool, JobError> {
        let session =
            self.monitor.watch("C_OpenSession", || self.pkcs11.open_ro_session(self.slot));
        let session = session.map_err(|error| JobError::of_call("C_OpenSession", &error))?;
        let begun = self.monitor.watch("C_DecryptInit", || session.decrypt_init(mechanism, key));
        self.monitor.watch("C_CloseSession", || drop(session));
        Ok(begun.is_ok())
    }
}
