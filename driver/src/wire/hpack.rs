//! Header compression (RFC 7541): all of it to decode, the plainest of it to encode.

use std::collections::VecDeque;

use super::huffman;

/// The limit of the dynamic table, in the RFC's measure.
const TABLE_SIZE: usize = 4_096;
/// The limit of a decoded block, in the same measure: one byte of a block may stand for a whole entry of the table.
const LARGEST_LIST: usize = 64 << 10;
/// The overhead of an entry in the RFC's measure.
const ENTRY_OVERHEAD: usize = 32;
/// The static table (appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// A header field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Decodes the header blocks of one connection, in order.
pub(super) struct Decoder {
    table: VecDeque<Field>,
    size: usize,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, limit: TABLE_SIZE }
    }
}

impl Decoder {
    /// Decodes one complete block; `None` if it is malformed.
    pub(super) fn decode(&mut self, block: &[u8]) -> Option<Vec<Field>> {
        let mut fields = Vec::new();
        let (mut rest, mut room) = (block, LARGEST_LIST);
        while let Some(first) = rest.first().copied() {
            let field = match first {
                // An indexed field.
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    self.field(index)?
                }
                // A literal with indexing.
                0x40..=0x7f => {
                    let field = self.literal(&mut rest, 6)?;
                    self.insert(field.clone());
                    field
                }
                // A new limit of the table.
                0x20..=0x3f => {
                    self.limit = Some(integer(&mut rest, 5)?).filter(|size| *size <= TABLE_SIZE)?;
                    self.evict();
                    continue;
                }
                // A literal without indexing.
                _ => self.literal(&mut rest, 4)?,
            };
            room = room.checked_sub(field.size())?;
            fields.push(field);
        }
        Some(fields)
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Option<Field> {
        let name = match integer(rest, prefix)? {
            0 => string(rest)?,
            index => self.field(index)?.name,
        };
        Some(Field { name, value: string(rest)? })
    }

    fn field(&self, index: usize) -> Option<Field> {
        match index {
            0 => None,
            1..=61 => Some(static_field(index)),
            _ => self.table.get(index - STATIC.len() - 1).cloned(),
        }
    }

    fn insert(&mut self, field: Field) {
        self.size += field.size();
        self.table.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.limit {
            let Some(field) = self.table.pop_back() else { return };
            self.size -= field.size();
        }
    }
}

impl Field {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + ENTRY_OVERHEAD
    }
}

fn static_field(index: usize) -> Field {
    let (name, value) = STATIC[index - 1];
    Field { name: name.into(), value: value.into() }
}

/// An integer whose first bits share a byte with something else (RFC 7541, 5.1).
fn integer(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let (first, mut tail) = rest.split_first()?;
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, more) = tail.split_first()?;
            tail = more;
            value = value.checked_add(usize::from(byte & 0x7f) << shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 21 {
                return None;
            }
        }
    }
    *rest = tail;
    Some(value)
}

fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let is_huffman = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    if is_huffman { huffman::decode(bytes) } else { Some(bytes.to_vec()) }
}

/// The header block of a gRPC request, without dynamic table and Huffman code: neither saves anything on a unix socket.
pub(super) fn request(path: &str, timeout_ms: u64) -> Vec<u8> {
    // :method POST, :scheme http.
    let mut block = vec![0x83, 0x86];
    block.push(0x04);
    append(&mut block, path);
    // :authority, which HTTP requires and a unix socket does not have.
    block.push(0x01);
    append(&mut block, "psid");
    // content-type: index 31, in a prefix of four bits.
    block.extend_from_slice(&[0x0f, 31 - 15]);
    append(&mut block, "application/grpc");
    let timeout = format!("{timeout_ms}m");
    for (name, value) in [("te", "trailers"), ("grpc-timeout", timeout.as_str())] {
        block.push(0x00);
        append(&mut block, name);
        append(&mut block, value);
    }
    block
}

fn append(block: &mut Vec<u8>, text: &str) {
    append_integer(block, text.len());
    block.extend_from_slice(text.as_bytes());
}

/// An integer in a prefix of seven bits (RFC 7541, 5.1), below a zero bit: no Huffman.
fn append_integer(block: &mut Vec<u8>, value: usize) {
    const PREFIX: usize = 0x7f;
    let low_bits = |value: usize| (value & 0x7f) as u8;
    if value < PREFIX {
        block.push(low_bits(value));
        return;
    }
    block.push(0x7f);
    let mut rest = value - PREFIX;
    while rest > 0x7f {
        block.push(0x80 | low_bits(rest));
        rest >>= 7;
    }
    block.push(low_bits(rest));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    fn texts(fields: &[Field]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fields.iter().map(|field| (text(&field.name), text(&field.value))).collect()
    }

    /// RFC 7541, C.6.1 to C.6.3: three responses on one connection, with a table of 256 bytes.
    #[test]
    fn responses_of_the_rfc_decode() {
        let mut decoder = Decoder { limit: 256, ..Decoder::default() };
        let first = decoder.decode(&bytes("488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3")).unwrap();
        assert_eq!(texts(&first)[0], (":status".into(), "302".into()));
        assert_eq!(decoder.size, 222);
        let second = decoder.decode(&bytes("4883640effc1c0bf")).unwrap();
        assert_eq!(texts(&second)[0], (":status".into(), "307".into()));
        assert_eq!(texts(&second)[2].1, "Mon, 21 Oct 2013 20:13:21 GMT");
        assert_eq!(decoder.size, 222);
        let third = decoder.decode(&bytes("88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007")).unwrap();
        assert_eq!(texts(&third)[0], (":status".into(), "200".into()));
        assert_eq!(decoder.size, 215);
    }

    #[test]
    fn decode_rejects_malformed_blocks() {
        for hex in [
            "80",
            "be",
            "ff",
            "ffffffffffff",
            "3fe21f",
            "00",
            "0001",
            "000161",
            "00016102",
            "0085ffffffff",
            "7f",
        ] {
            assert_eq!(Decoder::default().decode(&bytes(hex)), None, "{hex}");
        }
    }

    /// One entry of 4,000 bytes, and 60,000 times a byte that means it.
    #[test]
    fn decode_rejects_a_small_block_of_a_huge_list() {
        let entry = [&bytes("4001617fa11e")[..], &[b'v'; 4_000]].concat();
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&entry).unwrap()[0].value.len(), 4_000);
        assert_eq!(decoder.decode(&[0xbe; 16]).unwrap().len(), 16);
        assert_eq!(decoder.decode(&[0xbe; 60_000]), None);
    }

    #[test]
    fn request_keeps_a_path_of_any_length() {
        for length in [1, 125, 126, 127, 128, 254, 255, 16_000] {
            let path = "p".repeat(length);
            let fields = texts(&Decoder::default().decode(&request(&path, 10_000)).unwrap());
            assert!(fields.contains(&(":path".into(), path)), "{length}");
            assert!(fields.contains(&("grpc-timeout".into(), "10000m".into())), "{length}");
        }
    }

    proptest! {
        #[test]
        fn decoding_is_total(block in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            let _ = decoder.decode(&block);
            let _ = decoder.decode(&block);
            prop_assert!(decoder.size <= TABLE_SIZE);
        }
    }

    #[test]
    fn request_block_decodes_to_its_fields() {
        let fields =
            Decoder::default().decode(&request("/psi.v1.SecretDriver/Lookup", 10_000)).unwrap();
        let last = texts(&fields)[6].clone();
        assert_eq!(last, ("grpc-timeout".into(), "10000m".into()));
        assert_eq!(texts(&fields)[4], ("content-type".into(), "application/grpc".into()));
    }
}
