//! The public key of an RSA key pair whose private key is in a token. All operations use the public key, so
//! RUSTSEC-2023-0071 (Marvin), which concerns operations with a private key, does not apply.

use psi_common::SecretBytes;
use rsa::BoxedUint;
use rsa::sha2::Sha256;
use rsa::traits::PublicKeyParts;

/// The accepted sizes: smaller keys are insecure, and tokens have no larger ones.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// An RSA operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RsaError {
    /// The numbers are not an acceptable key.
    #[error("no RSA key of {least} to {most} bits: {0}", least = BITS.start(), most = BITS.end())]
    Key(String),
    /// The key cannot be wrapped.
    #[error("{0}")]
    Wrap(String),
}

/// An RSA public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(rsa::PublicKey);

impl PublicKey {
    /// A key of these big-endian numbers.
    pub fn from_parts(modulus: &[u8], exponent: &[u8]) -> Result<Self, RsaError> {
        let number = BoxedUint::from_be_slice_vartime;
        rsa::PublicKey::new_with_size_limits(number(modulus), number(exponent), BITS)
            .map(Self)
            .map_err(|error| RsaError::Key(error.to_string()))
    }

    /// Wraps a key: RSA-OAEP with SHA-256 and MGF1-SHA-256, without a label.
    pub fn wrap(&self, key: &SecretBytes) -> Result<Vec<u8>, RsaError> {
        self.0
            .oaep_encrypt::<Sha256>(key.expose_secret())
            .map_err(|error| RsaError::Wrap(error.to_string()))
    }

    /// Whether `signature` is this key's for `message`: RSASSA-PKCS1-v1_5 with SHA-256.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.pkcs1v15_verify::<Sha256>(message, signature).is_ok()
    }

    /// The bits of the modulus.
    pub fn bits(&self) -> usize {
        usize::try_from(self.0.n().bit_width()).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    /// The public half of tests/vectors/python-psi/hsm-key.pem, and a signature that openssl made with
    /// it: `openssl dgst -sha256 -sign hsm-key.pem` over the three bytes "psi".
    const MODULUS: &str = "\
        ec60a017b26070bdbca9f2fb931afd684d3236326d9cd930ccb336d8a4dfa87c1ddbce20ae12660334a8e7ed9aff9d1c\
        3d2709d4f615c28be126cc0d501fdf4e570390d98776f271358da50f2f0fa8d82e76389391b51c1deb577c83a0dcfe93\
        856a75e1ef1283ccf79d47e888933e4b12b85f932f498b5300467bbff37842fe54e5116c14b5a7909a962857d7227eca\
        b952c4258e1f80cad192331e2bf1d4fe7c0deb2d92d6326569acc59789a0a1592131b7f0dd485a49979698923c827aaf\
        6e0977747454e96375e1a571ce80d2ac0fd85f65d8ae0b78ee0056a9a9577ad682008d0b33b1c0b294fd8eb1aa8d3c38\
        5eb2def5fcd59c7599594e0494ee40a3";
    const SIGNATURE: &str = "\
        a6f094bf571be5605e37f4a0b86cd294f8e2b7a3201d57ab87db67b0f9c86835742e9c2517c407b61e8549cc6f53a9ef\
        f0b3b87d67cc9d5ff51b132861210d3ab6001066ef8424e617a5b6a9d92fcf4a571f1fced6152de3f37fe6cde58ae90f\
        97b7013ad6b32532b2389feb12be8869845a8b27955d062f19f133e9a40b1d2a7748adead765a46f910b95dcf74b4d18\
        1a763e580f6c5983e5b7791b4757b294b1ef49c82fec492199846799611c047210b996a202947977b5c7e58ed799b9a6\
        048cd1212d400e4e23b0130fd41728aa74858c1371219b39a55d5322f5cd1101a4bc356861b0f7095c13ad90d53f5d88\
        3127ceec5387f9222b347251fffcfb4c";

    fn bytes(hex: &str) -> Vec<u8> {
        HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    fn key() -> PublicKey {
        PublicKey::from_parts(&bytes(MODULUS), &[1, 0, 1]).unwrap()
    }

    #[test]
    fn verify_accepts_a_signature_of_openssl() {
        let signature = bytes(SIGNATURE);
        assert_eq!(key().bits(), 2048);
        assert!(key().verify(b"psi", &signature));
        assert!(!key().verify(b"psj", &signature));
        assert!(!key().verify(b"psi", &signature[1..]));
        assert!(!key().verify(b"psi", b""));
    }

    #[test]
    fn from_parts_ignores_leading_zeros() {
        let modulus = [&[0], bytes(MODULUS).as_slice()].concat();
        assert_eq!(PublicKey::from_parts(&modulus, &[0, 1, 0, 1]), Ok(key()));
    }

    #[test]
    fn wrap_is_randomised_and_as_long_as_the_modulus() {
        let secret = SecretBytes::new(vec![7; 32]);
        let (one, two) = (key().wrap(&secret).unwrap(), key().wrap(&secret).unwrap());
        assert_eq!((one.len(), two.len()), (256, 256));
        assert_ne!(one, two);
        let too_long = SecretBytes::new(vec![7; 256 - 2 * 32 - 2 + 1]);
        assert!(key().wrap(&too_long).is_err());
    }

    #[test]
    fn from_parts_rejects_invalid_keys() {
        for (modulus, exponent) in [
            (bytes(MODULUS), vec![]),
            (bytes(MODULUS), vec![1]),
            (bytes(MODULUS)[128..].to_vec(), vec![1, 0, 1]),
            (vec![], vec![1, 0, 1]),
            (vec![0; 256], vec![1, 0, 1]),
            (vec![0xff; 2000], vec![1, 0, 1]),
        ] {
            let error = PublicKey::from_parts(&modulus, &exponent).unwrap_err();
            assert!(error.to_string().starts_with("no RSA key of 2048 to 8192 bits: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn verify_rejects_any_flipped_bit(at in 0..256_usize, bit in 0..8u8) {
            let mut signature = bytes(SIGNATURE);
            signature[at] ^= 1 << bit;
            prop_assert!(!key().verify(b"psi", &signature));
        }

        #[test]
        fn from_parts_never_panics(modulus in prop::collection::vec(any::<u8>(), 0..300), exponent in prop::collection::vec(any::<u8>(), 0..10)) {
            if let Ok(key) = PublicKey::from_parts(&modulus, &exponent) {
                prop_assert!(!key.verify(b"psi", &[7; 256]));
            }
        }
    }
}
