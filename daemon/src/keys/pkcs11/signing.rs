//! Signatures by any key of the token: TLS client certificates have keys of their own.

use cryptoki::error::RvError;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType};
use sha2::{Digest, Sha256};

use super::der;
use super::error::{TokenError, cause, return_value};
use super::session::{JobError, Session};
use super::token_worker::SessionAccess;
use super::{KeyChoice, Token};

/// The longest field element of the supported curve, P-256.
const P256_BYTES: usize = 32;

/// The public half of a key that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Its algorithm.
    pub algorithm: SigningAlgorithm,
    /// The key as the `subjectPublicKey` of a certificate: an `RSAPublicKey`, or an uncompressed point.
    pub public_key: Vec<u8>,
}

/// The algorithm of a key that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// RSA.
    Rsa,
    /// ECDSA on P-256.
    EcdsaP256,
}

/// A signature scheme of TLS; each hashes with SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningScheme {
    /// RSASSA-PSS with a salt of 32 bytes.
    RsaPss,
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1,
    /// ECDSA on P-256, as a DER sequence of two integers.
    EcdsaP256,
}

impl Token {
    /// The public half of a key of the token.
    pub async fn signing_key(&self, key: &KeyChoice) -> Result<SigningKey, TokenError> {
        let key = key.clone();
        let job = move |session: &mut Session| session.with_key(&key, Session::signing_key);
        self.handle.call(self.timeout, SessionAccess::User, job).await
    }

    /// Signs with a key of the token.
    pub async fn sign_with(
        &self,
        key: &KeyChoice,
        scheme: SigningScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, TokenError> {
        let (key, message) = (key.clone(), message.to_vec());
        let job = move |session: &mut Session| {
            session.with_key(&key, |session| session.sign_by(scheme, &message))
        };
        self.handle.call(self.timeout, SessionAccess::User, job).await
    }
}

impl Session {
    fn signing_key(&mut self) -> Result<SigningKey, JobError> {
        let private = self.private_key()?;
        match self.attributes(private, &[AttributeType::KeyType])?.as_slice() {
            [Attribute::KeyType(KeyType::RSA)] => {
                let (modulus, exponent) = self.public_numbers(private)?;
                let public_key = der::sequence(&[der::integer(&modulus), der::integer(&exponent)]);
                Ok(SigningKey { algorithm: SigningAlgorithm::Rsa, public_key })
            }
            [Attribute::KeyType(KeyType::EC)] => {
                let public = self.public_object(private)?;
                let point = match self.attributes(public, &[AttributeType::EcPoint])?.as_slice() {
                    [Attribute::EcPoint(point)] => der::octets(point).and_then(uncompressed_p256),
                    _ => None,
                };
                let public_key =
                    point.ok_or_else(|| self.unsuitable("is not on the curve P-256"))?;
                Ok(SigningKey { algorithm: SigningAlgorithm::EcdsaP256, public_key })
            }
            _ => Err(self.unsuitable("is neither an RSA key nor one of an elliptic curve")),
        }
    }

    fn unsuitable(&self, why: &str) -> JobError {
        JobError::Permanent(TokenError::refused(
            format!("the token's key with the {} {why}", self.named()),
            "use an RSA key of 2048 bits or more, or an EC key on P-256 (secp256r1)",
        ))
    }

    fn sign_by(&mut self, scheme: SigningScheme, message: &[u8]) -> Result<Vec<u8>, JobError> {
        let key = self.private_key()?;
        let salt = PkcsPssParams {
            hash_alg: MechanismType::SHA256,
            mgf: PkcsMgfType::MGF1_SHA256,
            s_len: 32.into(),
        };
        let (mechanism, name, message) = match scheme {
            SigningScheme::RsaPss => {
                (Mechanism::Sha256RsaPkcsPss(salt), "CKM_SHA256_RSA_PKCS_PSS", message.to_vec())
            }
            SigningScheme::RsaPkcs1 => {
                (Mechanism::Sha256RsaPkcs, "CKM_SHA256_RSA_PKCS", message.to_vec())
            }
            // Fewer tokens have CKM_ECDSA_SHA256.
            SigningScheme::EcdsaP256 => {
                (Mechanism::Ecdsa, "CKM_ECDSA", Sha256::digest(message).to_vec())
            }
        };
        let signed = self.watch("C_Sign", |session| session.sign(&mechanism, key, &message));
        let signature = signed.map_err(|error| match return_value(&error) {
            Some(
                RvError::KeyFunctionNotPermitted
                | RvError::KeyTypeInconsistent
                | RvError::MechanismInvalid
                | RvError::MechanismParamInvalid
                | RvError::ArgumentsBad,
            ) => JobError::Permanent(TokenError::refused(
                format!(
                    "the token's key with the {} does not sign with {name}: {}",
                    self.named(),
                    cause(&error)
                ),
                "use a key that may sign (`pkcs11-tool --login --keypairgen --usage-sign`), and a token with \
                 this mechanism (`pkcs11-tool -M`)",
            )),
            _ => JobError::of_call("C_Sign", &error),
        })?;
        match scheme {
            SigningScheme::EcdsaP256 => ecdsa_sequence(&signature)
                .ok_or_else(|| self.unsuitable("signs with a signature of another curve")),
            SigningScheme::RsaPss | SigningScheme::RsaPkcs1 => Ok(signature),
        }
    }
}

fn uncompressed_p256(point: &[u8]) -> Option<Vec<u8>> {
    (point.len() == 1 + 2 * P256_BYTES && point[0] == 4).then(|| point.to_vec())
}

/// A token's signature, r and s, as TLS has it.
fn ecdsa_sequence(signature: &[u8]) -> Option<Vec<u8>> {
    let is_p256 = signature.len() == 2 * P256_BYTES;
    let (r, s) = is_p256.then(|| signature.split_at(P256_BYTES))?;
    Some(der::sequence(&[der::integer(r), der::integer(s)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecdsa_signature_becomes_two_integers() {
        let mut signature = [0; 64];
        (signature[31], signature[32]) = (7, 0x80);
        let sequence = ecdsa_sequence(&signature).unwrap();
        assert_eq!(sequence[..5], [0x30, 3 + 35, 2, 1, 7]);
        assert_eq!(sequence[5..9], [2, 33, 0, 0x80]);
        assert_eq!(ecdsa_sequence(&[0; 96]), None);
    }

    #[test]
    fn only_uncompressed_points_of_p256_are_keys() {
        assert!(uncompressed_p256(&[4; 65]).is_some());
        for point in [&[2; 33][..], &[4; 97], &[]] {
            assert_eq!(uncompressed_p256(point), None);
        }
    }
}
