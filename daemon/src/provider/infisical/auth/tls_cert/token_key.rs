//! A private key on a PKCS#11 token, as rustls signs with it. The key never leaves the token.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::{SubjectPublicKeyInfoDer, alg_id};
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use tokio::runtime::Handle;

use crate::keys::pkcs11::{KeyChoice, SigningAlgorithm, SigningScheme, Token};

/// The timeout of one signature, in the middle of a handshake: the token is logged in already.
const SIGNATURE: Duration = Duration::from_secs(10);

/// The schemes of each algorithm, the preferred one first. Each hashes with SHA-256, which each server accepts.
const RSA: [(SignatureScheme, SigningScheme); 2] = [
    (SignatureScheme::RSA_PSS_SHA256, SigningScheme::RsaPss),
    (SignatureScheme::RSA_PKCS1_SHA256, SigningScheme::RsaPkcs1),
];
const ECDSA: [(SignatureScheme, SigningScheme); 1] =
    [(SignatureScheme::ECDSA_NISTP256_SHA256, SigningScheme::EcdsaP256)];

/// A key of the token.
#[derive(Clone)]
pub(super) struct TokenKey {
    token: Token,
    choice: KeyChoice,
    algorithm: SigningAlgorithm,
    public: SubjectPublicKeyInfoDer<'static>,
}

/// A signature of the token, in one scheme.
struct TokenSigner {
    key: TokenKey,
    scheme: SignatureScheme,
    on_token: SigningScheme,
}

impl TokenKey {
    /// Finds the key on the token, which opens the session that signs afterwards.
    pub(super) async fn open(token: Token, choice: KeyChoice) -> Result<Self, String> {
        let key = token.signing_key(&choice).await.map_err(|error| error.to_string())?;
        let algorithm = match key.algorithm {
            SigningAlgorithm::Rsa => alg_id::RSA_ENCRYPTION,
            SigningAlgorithm::EcdsaP256 => alg_id::ECDSA_P256,
        };
        let public = public_key_to_spki(&algorithm, &key.public_key);
        Ok(Self { token, choice, algorithm: key.algorithm, public })
    }
}

impl SigningKey for TokenKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let schemes: &[_] = match self.algorithm {
            SigningAlgorithm::Rsa => &RSA,
            SigningAlgorithm::EcdsaP256 => &ECDSA,
        };
        let (scheme, on_token) = *schemes.iter().find(|(scheme, _)| offered.contains(scheme))?;
        Some(Box::new(TokenSigner { key: self.clone(), scheme, on_token }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.public.clone())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.algorithm {
            SigningAlgorithm::Rsa => SignatureAlgorithm::RSA,
            SigningAlgorithm::EcdsaP256 => SignatureAlgorithm::ECDSA,
        }
    }
}

impl Signer for TokenSigner {
    /// rustls signs in the middle of a poll: the worker thread gives its other tasks away meanwhile.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let token = self.key.token.with_timeout(SIGNATURE);
        let signature = token.sign_with(&self.key.choice, self.on_token, message);
        let signed = tokio::task::block_in_place(|| Handle::current().block_on(signature));
        signed.map_err(|error| Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({:?})", self.choice)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSigner({:?})", self.scheme)
    }
}
