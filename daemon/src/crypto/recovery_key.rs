//! `recovery.enc`: the data keys, wrapped by a recovery key that an admin keeps. Pure.
//!
//! ```text
//! magic "PSIR" (4) · version (1: 1) · key id of the data key (16)
//! · nonce (12) · AES-256-GCM(the wrapping key, 32 bytes) under the data key
//! · nonce (12) · AES-256-GCM(the data keys, 32 bytes each, the present one first) under the wrapping key
//! ```
//!
//! The wrapping key is a hash of the recovery key. It is stored under the data key, so that a rekey does not need the
//! recovery key; it reveals nothing beyond the data key. All bytes before a ciphertext are authenticated with it.

use psi_common::SecretBytes;
use zeroize::Zeroizing;

use crate::crypto::aead::{Aead, DataKey, KEY_ID_LEN, NONCE_LEN, TAG_LEN};

const MAGIC: &[u8; 4] = b"PSIR";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 4 + 1 + KEY_ID_LEN;
const SEALED_KEY_LEN: usize = DataKey::LEN + TAG_LEN;
/// The present data key, and the former one during a rekey.
const MAX_KEYS: usize = 2;

/// Yubico's modified hexadecimal digits: the same on every keyboard layout. systemd-cryptenroll's
/// recovery keys have this form too.
const MODHEX: &[u8; 16] = b"cbdefghijklnrtuv";
const GROUP: usize = 8;

/// A recovery key, which an admin writes down: 256 random bits, as 64 digits in eight groups.
pub struct RecoveryKey(DataKey);

/// A recovery key or `recovery.enc` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The text is not a recovery key.
    #[error(
        "it is not a recovery key: that has 64 of the letters cbdefghijklnrtuv, in groups of eight"
    )]
    Malformed,
    /// The recovery key is another one, or the file was damaged.
    #[error("the recovery key is another one, or recovery.enc was damaged")]
    OtherKey,
    /// The file has another format, or ends too early.
    #[error("recovery.enc is truncated, or is not a recovery file")]
    NoRecoveryFile,
    /// The file is for another data key, was damaged or tampered with.
    #[error("recovery.enc is for another data key, was damaged or tampered with")]
    NotAuthentic,
    /// The kernel returned no random numbers.
    #[error("the kernel returns no random numbers")]
    NoRandomNumbers,
}

impl RecoveryKey {
    /// A new random recovery key.
    pub fn generate() -> Result<Self, RecoveryError> {
        DataKey::generate().map(Self).map_err(|_| RecoveryError::NoRandomNumbers)
    }

    /// Parses a typed recovery key; dashes and blanks are ignored.
    pub fn parse(text: &SecretBytes) -> Result<Self, RecoveryError> {
        let digits = text.expose_secret().iter().map(u8::to_ascii_lowercase);
        let digits = digits.filter(|digit| *digit != b'-' && !digit.is_ascii_whitespace());
        let mut key = Zeroizing::new(Vec::with_capacity(DataKey::LEN));
        let mut high = None;
        for digit in digits {
            let nibble = MODHEX.iter().position(|known| *known == digit);
            let nibble =
                nibble.and_then(|at| u8::try_from(at).ok()).ok_or(RecoveryError::Malformed)?;
            match high.take() {
                None => high = Some(nibble),
                Some(high) => key.push(high << 4 | nibble),
            }
            if key.len() > DataKey::LEN {
                return Err(RecoveryError::Malformed);
            }
        }
        let key = SecretBytes::new(std::mem::take(&mut *key));
        match (high, DataKey::from_secret(&key)) {
            (None, Some(key)) => Ok(Self(key)),
            _ => Err(RecoveryError::Malformed),
        }
    }

    /// The text that [`Self::parse`] accepts.
    pub fn to_text(&self) -> SecretBytes {
        let key = self.0.to_secret();
        let mut text = Vec::with_capacity(DataKey::LEN * 2 + DataKey::LEN * 2 / GROUP);
        for (at, byte) in key.expose_secret().iter().enumerate() {
            if at > 0 && at * 2 % GROUP == 0 {
                text.push(b'-');
            }
            text.push(MODHEX[usize::from(byte >> 4)]);
            text.push(MODHEX[usize::from(byte & 15)]);
        }
        SecretBytes::new(text)
    }

    fn wrapping_key(&self) -> DataKey {
        // 256 random bits need no slow hash.
        self.0.derived_for(b"psi recovery wrap v1\0")
    }
}

/// The file for a new recovery key; `keys` are the data keys, the present one first.
pub fn wrap(recovery: &RecoveryKey, keys: &[&DataKey]) -> Result<Vec<u8>, RecoveryError> {
    encode(&recovery.wrapping_key(), keys)
}

/// The file for other data keys and the same recovery key; one of `former` opens the present file.
pub fn rewrap(
    file: &[u8],
    former: &[&DataKey],
    keys: &[&DataKey],
) -> Result<Vec<u8>, RecoveryError> {
    encode(&wrapping_key_in(file, former)?, keys)
}

/// Opens the file with the recovery key.
pub fn open(file: &[u8], recovery: &RecoveryKey) -> Result<Vec<DataKey>, RecoveryError> {
    let parts = Parts::parse(file)?;
    let keys = parts.data_keys(&recovery.wrapping_key()).map_err(|_| RecoveryError::OtherKey)?;
    // Checks the other half too, so that a file that was tampered with is not accepted.
    let present = keys.first().ok_or(RecoveryError::NoRecoveryFile)?;
    wrapping_key_in(file, &[present])?;
    Ok(keys)
}

/// Checks that the file is intact and for one of these data keys. During a rekey there are two, and the file may be
/// for the former one only.
pub fn check(file: &[u8], keys: &[&DataKey]) -> Result<(), RecoveryError> {
    let wrapping = wrapping_key_in(file, keys)?;
    let wrapped = Parts::parse(file)?.data_keys(&wrapping)?;
    let is_known = |wrapped: &DataKey| {
        let wrapped = wrapped.to_secret();
        keys.iter().any(|key| key.to_secret().same_as(&wrapped))
    };
    if wrapped.iter().any(is_known) { Ok(()) } else { Err(RecoveryError::NotAuthentic) }
}

fn encode(wrapping: &DataKey, keys: &[&DataKey]) -> Result<Vec<u8>, RecoveryError> {
    let present = Aead::new(keys.first().ok_or(RecoveryError::NotAuthentic)?);
    let mut file = MAGIC.to_vec();
    file.push(VERSION);
    file.extend_from_slice(&present.key_id());
    append(&mut file, &present, &wrapping.to_secret())?;
    let mut all = Zeroizing::new(Vec::with_capacity(DataKey::LEN * MAX_KEYS));
    for key in keys.iter().take(MAX_KEYS) {
        all.extend_from_slice(key.to_secret().expose_secret());
    }
    append(&mut file, &Aead::new(wrapping), &SecretBytes::new(std::mem::take(&mut *all)))?;
    Ok(file)
}

fn append(file: &mut Vec<u8>, aead: &Aead, plaintext: &SecretBytes) -> Result<(), RecoveryError> {
    let nonce = Aead::nonce().map_err(|_| RecoveryError::NoRandomNumbers)?;
    file.extend_from_slice(&nonce);
    let aad = file.clone();
    aead.seal(nonce, &aad, plaintext, file);
    Ok(())
}

fn wrapping_key_in(file: &[u8], keys: &[&DataKey]) -> Result<DataKey, RecoveryError> {
    let parts = Parts::parse(file)?;
    let aeads = keys.iter().map(|key| Aead::new(key));
    let aead = aeads
        .into_iter()
        .find(|aead| aead.key_id() == parts.key_id)
        .ok_or(RecoveryError::NotAuthentic)?;
    let (nonce, aad, sealed) = parts.wrapping;
    let opened = aead.open(nonce, aad, sealed).map_err(|_| RecoveryError::NotAuthentic)?;
    DataKey::from_secret(&opened).ok_or(RecoveryError::NotAuthentic)
}

/// A ciphertext: nonce, associated data, bytes.
type Sealed<'a> = ([u8; NONCE_LEN], &'a [u8], &'a [u8]);

struct Parts<'a> {
    key_id: [u8; KEY_ID_LEN],
    wrapping: Sealed<'a>,
    keys: Sealed<'a>,
}

impl<'a> Parts<'a> {
    fn parse(file: &'a [u8]) -> Result<Self, RecoveryError> {
        let bad = || RecoveryError::NoRecoveryFile;
        let (header, _) = file.split_first_chunk::<HEADER_LEN>().ok_or_else(bad)?;
        let key_id = header[5..].try_into().map_err(|_| bad())?;
        if &header[..4] != MAGIC || header[4] != VERSION {
            return Err(bad());
        }
        let keys_at = HEADER_LEN + NONCE_LEN + SEALED_KEY_LEN;
        let wrapping = sealed_at(file, HEADER_LEN, keys_at).ok_or_else(bad)?;
        let keys = sealed_at(file, keys_at, file.len()).ok_or_else(bad)?;
        Ok(Self { key_id, wrapping, keys })
    }

    fn data_keys(&self, wrapping: &DataKey) -> Result<Vec<DataKey>, RecoveryError> {
        let (nonce, aad, sealed) = self.keys;
        let opened = Aead::new(wrapping)
            .open(nonce, aad, sealed)
            .map_err(|_| RecoveryError::NotAuthentic)?;
        let keys: Option<Vec<DataKey>> = opened
            .expose_secret()
            .chunks(DataKey::LEN)
            .map(|key| DataKey::from_secret(&SecretBytes::new(key.to_vec())))
            .collect();
        keys.filter(|keys| !keys.is_empty()).ok_or(RecoveryError::NotAuthentic)
    }
}

fn sealed_at(file: &[u8], from: usize, to: usize) -> Option<Sealed<'_>> {
    let text = from + NONCE_LEN;
    let nonce = file.get(from..text)?.try_into().ok()?;
    let sealed = file.get(text..to).filter(|sealed| sealed.len() >= TAG_LEN)?;
    Some((nonce, &file[..text], sealed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> DataKey {
        DataKey::from_secret(&SecretBytes::new(vec![byte; 32])).unwrap()
    }

    fn same(keys: &[DataKey], bytes: &[u8]) -> bool {
        keys.len() == bytes.len()
            && keys
                .iter()
                .zip(bytes)
                .all(|(found, byte)| found.to_secret().same_as(&key(*byte).to_secret()))
    }

    fn text(recovery: &RecoveryKey) -> String {
        String::from_utf8(recovery.to_text().into_exposed()).unwrap()
    }

    #[test]
    fn parse_accepts_what_is_shown() {
        let recovery = RecoveryKey(key(0x5a));
        let shown = text(&recovery);
        assert_eq!(shown, ["glglglgl"; 8].join("-"));
        for typed in [shown.clone(), shown.replace('-', ""), format!(" {}\n", shown.to_uppercase())]
        {
            let read = RecoveryKey::parse(&SecretBytes::new(typed.into_bytes())).unwrap();
            assert!(read.0.to_secret().same_as(&recovery.0.to_secret()));
        }
        let longer = format!("{shown}c");
        for typed in ["", "glglglgl", &shown[1..], &longer, &shown.replace('g', "a")] {
            let read = RecoveryKey::parse(&SecretBytes::new(typed.as_bytes().to_vec()));
            assert_eq!(read.err(), Some(RecoveryError::Malformed), "{typed}");
        }
    }

    #[test]
    fn open_returns_the_keys_before_during_and_after_a_rekey() {
        let recovery = RecoveryKey::generate().unwrap();
        let before = wrap(&recovery, &[&key(1)]).unwrap();
        let amid = rewrap(&before, &[&key(1)], &[&key(2), &key(1)]).unwrap();
        let after = rewrap(&amid, &[&key(2), &key(1)], &[&key(2)]).unwrap();
        for (file, keys) in [(&before, &[1][..]), (&amid, &[2, 1]), (&after, &[2])] {
            assert!(same(&open(file, &recovery).unwrap(), keys));
            check(file, &[&key(keys[0])]).unwrap();
            let other = RecoveryKey::generate().unwrap();
            assert_eq!(open(file, &other).err(), Some(RecoveryError::OtherKey));
            assert_eq!(check(file, &[&key(9)]), Err(RecoveryError::NotAuthentic));
        }
        assert_eq!(rewrap(&after, &[&key(1)], &[&key(3)]), Err(RecoveryError::NotAuthentic));
        // A rekey that was interrupted before it came to this file.
        check(&before, &[&key(2), &key(1)]).unwrap();
    }

    #[test]
    fn open_rejects_any_flipped_bit_and_any_truncation() {
        let recovery = RecoveryKey::generate().unwrap();
        let file = wrap(&recovery, &[&key(1)]).unwrap();
        for at in 0..file.len() {
            assert!(
                open(&file[..at], &recovery).is_err() && check(&file[..at], &[&key(1)]).is_err()
            );
            for bit in 0..8 {
                let mut bad = file.clone();
                bad[at] ^= 1u8 << bit;
                assert!(open(&bad, &recovery).is_err(), "{at}.{bit}");
                assert!(check(&bad, &[&key(1)]).is_err(), "{at}.{bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(file in prop::collection::vec(any::<u8>(), 0..200), typed in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = RecoveryKey::parse(&SecretBytes::new(typed));
            let _ = check(&file, &[&key(1)]);
            let _ = check(&[b"PSIR\x01".as_slice(), &file].concat(), &[&key(1)]);
        }
    }
}
