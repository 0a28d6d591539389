//! What is inside `cache.enc`: protobuf, so that later versions can add fields. Pure.

use prost::Message;
use psi_common::SecretBytes;

use crate::cache::{Entry, Snapshot};
use crate::clock::Timestamp;
use crate::envelope::EnvelopeError;
use crate::reference::{Coordinates, Realm};

/// The payload of version 2.
#[derive(Clone, PartialEq, Message)]
struct Payload {
    /// Grows by one with each write.
    #[prost(uint64, tag = "1")]
    generation: u64,
    /// When it was written, in milliseconds since 1970 UTC.
    #[prost(uint64, tag = "2")]
    written_at_ms: u64,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<StoredEntry>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct StoredEntry {
    /// The text of the [`Realm`].
    #[prost(string, tag = "1")]
    realm: String,
    #[prost(string, tag = "2")]
    path: String,
    #[prost(string, tag = "3")]
    key: String,
    #[prost(bytes = "vec", tag = "4")]
    value: Vec<u8>,
    /// When the provider said so, in milliseconds since 1970 UTC.
    #[prost(uint64, tag = "5")]
    fetched_at_ms: u64,
    /// The boot in which it was last served; 0: it never was.
    #[prost(fixed64, tag = "6")]
    served_in: u64,
}

impl std::fmt::Debug for StoredEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredEntry(redacted)")
    }
}

/// The bytes that are sealed.
pub fn encode(snapshot: &Snapshot, written_at: Timestamp) -> SecretBytes {
    let head = Payload {
        generation: snapshot.generation,
        written_at_ms: written_at.as_millis(),
        entries: Vec::new(),
    };
    // Entry by entry: a whole Payload would hold a second copy of every value.
    let size: usize = snapshot
        .entries
        .iter()
        .map(|(at, entry)| {
            at.realm.as_str().len() + at.path.len() + at.key.len() + entry.value().len() + 57
        })
        .sum();
    let mut bytes = Vec::with_capacity(size + 40);
    bytes.extend_from_slice(&head.encode_to_vec());
    for (at, entry) in &snapshot.entries {
        let mut stored = StoredEntry {
            realm: at.realm.as_str().to_owned(),
            path: at.path.clone(),
            key: at.key.clone(),
            value: entry.value().expose_secret().to_vec(),
            fetched_at_ms: entry.fetched_at().as_millis(),
            served_in: entry.served_in(),
        };
        prost::encoding::message::encode(3, &stored, &mut bytes);
        drop(SecretBytes::new(std::mem::take(&mut stored.value)));
    }
    SecretBytes::new(bytes)
}

/// Reads what [`encode`] wrote.
pub fn decode(bytes: &SecretBytes) -> Result<Snapshot, EnvelopeError> {
    let payload = Payload::decode(bytes.expose_secret())
        .map_err(|error| EnvelopeError::Payload(error.to_string()))?;
    let entries = payload
        .entries
        .into_iter()
        .map(|stored| {
            let fetched_at = Timestamp::from_millis(stored.fetched_at_ms);
            let entry = Entry::new(SecretBytes::new(stored.value), fetched_at)
                .was_served_in(stored.served_in);
            let realm = Realm::from_stored(stored.realm);
            (Coordinates { realm, path: stored.path, key: stored.key }, entry.into())
        })
        .collect();
    Ok(Snapshot { generation: payload.generation, entries })
}

/// The bytes of the memory of a generation: 8, big-endian; none when the first start is not over.
pub fn encode_generation(generation: Option<u64>) -> SecretBytes {
    SecretBytes::new(generation.map_or_else(Vec::new, |number| number.to_be_bytes().to_vec()))
}

/// Reads what [`encode_generation`] wrote.
pub fn decode_generation(bytes: &SecretBytes) -> Result<Option<u64>, EnvelopeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let number = bytes.expose_secret().try_into().map(u64::from_be_bytes);
    number.map(Some).map_err(|_| EnvelopeError::Payload("it is no number".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn a_snapshot_survives(generation: u64, entries in prop::collection::btree_map((any::<String>(), any::<String>(), any::<String>()), (prop::collection::vec(any::<u8>(), 0..50), any::<u64>(), any::<u64>()), 0..8)) {
            let snapshot = Snapshot {
                generation,
                entries: entries
                    .iter()
                    .map(|(at, (value, ms, boot))| {
                        let entry = Entry::new(SecretBytes::new(value.clone()), Timestamp::from_millis(*ms)).was_served_in(*boot);
                        let (realm, path, key) = at.clone();
                        (Coordinates { realm: Realm::from_stored(realm), path, key }, Arc::new(entry))
                    })
                    .collect(),
            };
            let read = decode(&encode(&snapshot, Timestamp::from_millis(1))).unwrap();
            prop_assert_eq!(read.generation, generation);
            prop_assert_eq!(read.entries.len(), entries.len());
            for ((at, entry), (stored_at, (value, ms, boot))) in read.entries.iter().zip(&entries) {
                prop_assert_eq!((at.realm.as_str(), &at.path, &at.key), (stored_at.0.as_str(), &stored_at.1, &stored_at.2));
                prop_assert_eq!(entry.value().expose_secret(), &value[..]);
                prop_assert_eq!((entry.fetched_at().as_millis(), entry.served_in()), (*ms, *boot));
            }
        }

        #[test]
        fn decoding_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&SecretBytes::new(bytes));
        }
    }
}
