//! The payload of `cache.enc`: protobuf, so that later versions can add fields. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use prost::encoding::{
    DecodeContext, WireType, check_wire_type, decode_key, encode_key, encode_varint,
    encoded_len_varint, fixed64, skip_field, uint64,
};
use prost::{DecodeError, Message};
use psi_common::SecretBytes;

use crate::cache::{Entry, Replacement, Snapshot};
use crate::crypto::envelope::EnvelopeError;
use crate::model::clock::{BootInstant, Timestamp};
use crate::model::reference::{CacheKey, Namespace};

/// The fields of the payload, version 2: the generation, which each write increments; the time of the write, in
/// milliseconds since 1970 UTC; and the entries, repeated [`StoredEntry`].
const GENERATION: u32 = 1;
const WRITTEN_AT: u32 = 2;
const ENTRY: u32 = 3;

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct StoredEntry {
    /// The text of the [`Namespace`].
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    path: String,
    #[prost(string, tag = "3")]
    key: String,
    #[prost(bytes = "vec", tag = "4")]
    value: Vec<u8>,
    /// When the provider returned it, in milliseconds since 1970 UTC.
    #[prost(uint64, tag = "5")]
    fetched_at_ms: u64,
    /// The boot in which it was last served; 0 for none.
    #[prost(fixed64, tag = "6")]
    last_served_boot: u64,
    /// When the provider first returned this value, in milliseconds since 1970 UTC; 0 if that is `fetched_at_ms`.
    #[prost(uint64, tag = "7")]
    changed_at_ms: u64,
    /// The boot in which the value replaced another one; 0: it is the first one.
    #[prost(fixed64, tag = "8")]
    replaced_boot: u64,
    /// When, in milliseconds on that boot's clock.
    #[prost(uint64, tag = "9")]
    replaced_ms: u64,
}

impl std::fmt::Debug for StoredEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredEntry(redacted)")
    }
}

/// The most bytes that [`encode`] appends.
pub fn max_len(snapshot: &Snapshot) -> usize {
    // 40 for the generation and the time.
    40 + snapshot.entries.iter().map(|(key, entry)| max_entry_len(key, entry)).sum::<usize>()
}

/// Appends the payload.
pub fn encode(snapshot: &Snapshot, written_at: Timestamp, out: &mut Vec<u8>) {
    uint64::encode(GENERATION, &snapshot.generation, out);
    uint64::encode(WRITTEN_AT, &written_at.as_millis(), out);
    for (key, entry) in &snapshot.entries {
        encode_entry(key, entry, out);
    }
}

/// The most bytes of an entry: the texts, a tag and a length for each and for the entry, and five numbers.
fn max_entry_len(key: &CacheKey, entry: &Entry) -> usize {
    key.namespace.as_str().len() + key.path.len() + key.key.len() + entry.value().len() + 88
}

/// Encodes an entry as prost encodes a [`StoredEntry`], without the copies of text and value that a `StoredEntry`
/// needs.
fn encode_entry(key: &CacheKey, entry: &Entry, out: &mut Vec<u8>) {
    let texts = [
        (1, key.namespace.as_str().as_bytes()),
        (2, key.path.as_bytes()),
        (3, key.key.as_bytes()),
        (4, entry.value().expose_secret()),
    ];
    // Protobuf omits empty fields.
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    let (fetched_at, last_served_boot) = (entry.fetched_at().as_millis(), entry.last_served_boot());
    let changed_at = Some(entry.changed_at().as_millis()).filter(|changed| *changed != fetched_at);
    let changed_at = changed_at.unwrap_or_default();
    let mut length: usize =
        texts.clone().map(|(_, text)| 1 + encoded_len_varint(text.len() as u64) + text.len()).sum();
    if fetched_at != 0 {
        length += 1 + encoded_len_varint(fetched_at);
    }
    if last_served_boot != 0 {
        length += 1 + size_of::<u64>();
    }
    if changed_at != 0 {
        length += 1 + encoded_len_varint(changed_at);
    }
    let (replaced_boot, replaced_ms) = stored_replacement(entry);
    if replaced_boot != 0 {
        length += 1 + size_of::<u64>() + 1 + encoded_len_varint(replaced_ms);
    }
    encode_key(ENTRY, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
    for (tag, text) in texts {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(text.len() as u64, out);
        out.extend_from_slice(text);
    }
    if fetched_at != 0 {
        uint64::encode(5, &fetched_at, out);
    }
    if last_served_boot != 0 {
        fixed64::encode(6, &last_served_boot, out);
    }
    if changed_at != 0 {
        uint64::encode(7, &changed_at, out);
    }
    if replaced_boot != 0 {
        fixed64::encode(8, &replaced_boot, out);
        uint64::encode(9, &replaced_ms, out);
    }
}

/// The boot and the milliseconds; 0 for no boot.
fn stored_replacement(entry: &Entry) -> (u64, u64) {
    let Some(Replacement { boot, at }) = entry.replaced() else { return (0, 0) };
    (boot, u64::try_from(at.as_millis()).unwrap_or_default())
}

/// Decodes the bytes of [`encode`].
pub fn decode(bytes: &SecretBytes) -> Result<Snapshot, EnvelopeError> {
    decode_all(bytes.expose_secret()).map_err(|error| EnvelopeError::Payload(error.to_string()))
}

/// Decodes entry by entry: all [`StoredEntry`]s at once would fragment the memory.
fn decode_all(mut rest: &[u8]) -> Result<Snapshot, DecodeError> {
    let mut snapshot = Snapshot { generation: 0, entries: Vec::new() };
    let mut texts = Texts::default();
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest)?;
        match tag {
            GENERATION => {
                let context = DecodeContext::default();
                uint64::merge(wire, &mut snapshot.generation, &mut rest, context)?;
            }
            ENTRY => {
                check_wire_type(WireType::LengthDelimited, wire)?;
                let stored = StoredEntry::decode_length_delimited(&mut rest)?;
                snapshot.entries.push(stored.into_entry(&mut texts));
            }
            _ => skip_field(wire, tag, &mut rest, DecodeContext::default())?,
        }
    }
    Ok(snapshot)
}

impl StoredEntry {
    fn into_entry(self, texts: &mut Texts) -> (CacheKey, Arc<Entry>) {
        let namespace = Namespace::from_stored(texts.shared(&self.namespace));
        let key = CacheKey::new(namespace, texts.shared(&self.path), self.key);
        let fetched_at = Timestamp::from_millis(self.fetched_at_ms);
        let entry = Entry::new(SecretBytes::new(self.value), fetched_at);
        let entry = match self.changed_at_ms {
            0 => entry,
            changed_at => entry.unchanged_since(Timestamp::from_millis(changed_at)),
        };
        let entry = match (self.replaced_boot, i64::try_from(self.replaced_ms)) {
            (0, _) | (_, Err(_)) => entry,
            (boot, Ok(at)) => {
                entry.replacing(Replacement { boot, at: BootInstant::from_millis(at) })
            }
        };
        (key, entry.last_served_in(self.last_served_boot).into())
    }
}

/// Shared namespaces and directories: thousands of entries have the same ones.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn snapshot_survives_a_round_trip(generation: u64, entries in prop::collection::btree_map((any::<String>(), any::<String>(), any::<String>()), (prop::collection::vec(any::<u8>(), 0..50), any::<u64>(), any::<u64>(), 1..u64::MAX, prop::option::of((1..u64::MAX, 0..i64::MAX))), 0..8)) {
            let snapshot = Snapshot {
                generation,
                entries: entries
                    .iter()
                    .map(|(stored, (value, ms, boot, changed, replaced))| {
                        let entry = Entry::new(SecretBytes::new(value.clone()), Timestamp::from_millis(*ms)).last_served_in(*boot);
                        let entry = entry.unchanged_since(Timestamp::from_millis(*changed));
                        let replaced = replaced.map(|(boot, at)| Replacement { boot, at: BootInstant::from_millis(at) });
                        let entry = match replaced {
                            Some(replaced) => entry.replacing(replaced),
                            None => entry,
                        };
                        let (namespace, path, key) = stored.clone();
                        (CacheKey::new(Namespace::from_stored(namespace.into()), path, key), Arc::new(entry))
                    })
                    .collect(),
            };
            let mut bytes = Vec::new();
            encode(&snapshot, Timestamp::from_millis(1), &mut bytes);
            prop_assert!(bytes.len() <= max_len(&snapshot));
            let read = decode(&SecretBytes::new(bytes)).unwrap();
            prop_assert_eq!(read.generation, generation);
            prop_assert_eq!(read.entries.len(), entries.len());
            for ((key, entry), (stored, (value, ms, boot, changed, replaced))) in read.entries.iter().zip(&entries) {
                prop_assert_eq!((key.namespace.as_str(), &*key.path, &*key.key), (&*stored.0, &*stored.1, &*stored.2));
                prop_assert_eq!(entry.value().expose_secret(), &value[..]);
                prop_assert_eq!((entry.fetched_at().as_millis(), entry.last_served_boot()), (*ms, *boot));
                prop_assert_eq!(entry.changed_at().as_millis(), *changed);
                prop_assert_eq!(entry.replaced().map(|it| (it.boot, it.at.as_millis())), *replaced);
            }
        }

        #[test]
        fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&SecretBytes::new(bytes));
        }
    }
}
