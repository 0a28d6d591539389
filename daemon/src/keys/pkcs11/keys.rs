//! The objects of the token: the configured private key and its public key.

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use data_encoding::HEXLOWER;

use super::KeyChoice;
use super::error::TokenError;
use super::session::{JobError, Session};
use crate::crypto::rsa::PublicKey;

impl Session {
    /// Runs a job with another key than the configured one.
    pub(super) fn with_key<T>(
        &mut self,
        choice: &KeyChoice,
        job: impl FnOnce(&mut Self) -> Result<T, JobError>,
    ) -> Result<T, JobError> {
        if *choice == self.choice {
            return job(self);
        }
        let own = (std::mem::replace(&mut self.choice, choice.clone()), self.key.take());
        let result = job(self);
        (self.choice, self.key) = own;
        result
    }

    /// The handle of the configured private key.
    pub(super) fn private_key(&mut self) -> Result<ObjectHandle, JobError> {
        if let Some(key) = self.key {
            return Ok(key);
        }
        let chosen = match &self.choice {
            KeyChoice::Label(label) => Attribute::Label(label.clone().into_bytes()),
            KeyChoice::Id(id) => Attribute::Id(id.clone()),
        };
        match self.find(&[Attribute::Class(ObjectClass::PRIVATE_KEY), chosen])?.as_slice() {
            [key] => {
                self.key = Some(*key);
                Ok(*key)
            }
            [] => {
                let error = self.no_key()?;
                // Without a login, private keys are not visible.
                let hidden = self.is_login_claimed();
                Err(if hidden { JobError::Retryable(error) } else { JobError::Permanent(error) })
            }
            _ => Err(JobError::Permanent(TokenError::no_key(
                format!("more than one private key of the token has the {}", self.named()),
                "name it by its key_id; `pkcs11-tool --login -O` lists them",
            ))),
        }
    }

    /// The public key. The attributes of the private key take precedence: anyone who can write to the token may
    /// have created the public key object.
    pub(super) fn public_key(&mut self) -> Result<PublicKey, JobError> {
        let private = self.private_key()?;
        let (modulus, exponent) = self.public_numbers(private)?;
        PublicKey::from_parts(&modulus, &exponent).map_err(|why| {
            let what = format!("the token's key with the {}: {why}", self.named());
            JobError::Permanent(TokenError::refused(what, "use an RSA key of 2048 bits or more"))
        })
    }

    /// Modulus and public exponent of an RSA key, of the public object where the private one lacks them.
    pub(super) fn public_numbers(
        &self,
        private: ObjectHandle,
    ) -> Result<(Vec<u8>, Vec<u8>), JobError> {
        let (mut modulus, mut exponent) = self.rsa_numbers(private)?;
        if modulus.is_empty() || exponent.is_empty() {
            let (of_object, and_exponent) = self.rsa_numbers(self.public_object(private)?)?;
            modulus = if modulus.is_empty() { of_object } else { modulus };
            exponent = if exponent.is_empty() { and_exponent } else { exponent };
        }
        Ok((modulus, exponent))
    }

    pub(super) fn public_object(&self, private: ObjectHandle) -> Result<ObjectHandle, JobError> {
        let mut template = self.attributes(private, &[AttributeType::Id])?;
        let has_id = !template.is_empty();
        template.push(Attribute::Class(ObjectClass::PUBLIC_KEY));
        match self.find(&template)?.as_slice() {
            [key] if has_id => Ok(*key),
            _ => Err(JobError::Permanent(TokenError::refused(
                format!(
                    "the token does not have the public key of its key with the {}",
                    self.named()
                ),
                "write the public key there, with the same id: `pkcs11-tool --login --write-object … --type pubkey --id …`",
            ))),
        }
    }

    /// Modulus and public exponent; empty if the object does not have them.
    fn rsa_numbers(&self, key: ObjectHandle) -> Result<(Vec<u8>, Vec<u8>), JobError> {
        let (mut modulus, mut exponent) = (Vec::new(), Vec::new());
        let types = [AttributeType::Modulus, AttributeType::PublicExponent];
        for attribute in self.attributes(key, &types)? {
            match attribute {
                Attribute::Modulus(bytes) => modulus = bytes,
                Attribute::PublicExponent(bytes) => exponent = bytes,
                _ => {}
            }
        }
        Ok((modulus, exponent))
    }

    /// The error for a missing key, which names the keys that exist.
    fn no_key(&self) -> Result<TokenError, JobError> {
        let rsa = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(KeyType::RSA)];
        let mut names = Vec::new();
        for key in self.find(&rsa)? {
            for attribute in self.attributes(key, &[AttributeType::Label])? {
                if let Attribute::Label(label) = attribute {
                    names.push(format!("'{}'", String::from_utf8_lossy(&label)));
                }
            }
        }
        let others = match names.as_slice() {
            [] => "it has no RSA key".to_owned(),
            names => format!("its RSA keys are {}", names.join(", ")),
        };
        Ok(TokenError::no_key(
            format!("the token has no private key with the {}: {others}", self.named()),
            "make one with `pkcs11-tool --login --keypairgen --key-type rsa:2048 --usage-sign \
             --usage-decrypt --label podman-secrets --id 02`, or correct [providers.pkcs11]",
        ))
    }

    /// The name of the key in the config.
    pub(super) fn named(&self) -> String {
        match &self.choice {
            KeyChoice::Label(label) => format!("label '{label}'"),
            KeyChoice::Id(id) => format!("id {}", HEXLOWER.encode(id)),
        }
    }

    fn find(&self, template: &[Attribute]) -> Result<Vec<ObjectHandle>, JobError> {
        self.watch("C_FindObjects", |session| session.find_objects(template))
            .map_err(|error| JobError::of_call("C_FindObjects", &error))
    }

    pub(super) fn attributes(
        &self,
        object: ObjectHandle,
        types: &[AttributeType],
    ) -> Result<Vec<Attribute>, JobError> {
        self.watch("C_GetAttributeValue", |session| session.get_attributes(object, types))
            .map_err(|error| JobError::of_call("C_GetAttributeValue", &error))
    }
}
