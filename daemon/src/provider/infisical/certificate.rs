//! The validity of a certificate, for messages: the TLS library and the server verify the certificate.

use std::time::SystemTime;

use crate::model::clock::Timestamp;
use crate::provider::Validity;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `validity` of a certificate in DER (RFC 5280, 4.1).
pub(super) fn validity(certificate: &[u8]) -> Option<Validity> {
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(whole, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // The serial number, the signature's algorithm and the issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (start, end) = time(validity)?;
    let (end, _) = time(end)?;
    Some(Validity { start: Some(start), end })
}

/// A time, and what follows it.
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    if let Some((text, rest)) = element(bytes, GENERALIZED_TIME) {
        return Some((parse(std::str::from_utf8(text).ok()?)?, rest));
    }
    let (text, rest) = element(bytes, UTC_TIME)?;
    let text = std::str::from_utf8(text).ok()?;
    let century = if text.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" };
    Some((parse(&format!("{century}{text}"))?, rest))
}

/// "20260130120000Z"
fn parse(text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z')?;
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| &digits[from..to];
    let time = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    );
    humantime::parse_rfc3339(&time).ok().map(|time: SystemTime| time.into())
}

/// The content of the first element, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, bytes) = bytes.split_first()?;
    let (&length, bytes) = bytes.split_first()?;
    let (length, bytes) = match length {
        0..=0x7f => (usize::from(length), bytes),
        0x81..=0x83 => {
            let (length, bytes) = bytes.split_at_checked(usize::from(length - 0x80))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), bytes)
        }
        _ => return None,
    };
    (found == tag).then(|| bytes.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        let mut bytes = match length {
            0..=0x7f => vec![tag, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        bytes.extend(content);
        bytes
    }

    fn certificate(version: bool, from: &[u8], to: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        if version {
            fields.extend(der(VERSION, &der(INTEGER, &[2])));
        }
        fields.extend(der(INTEGER, &[1; 20]));
        fields.extend(der(SEQUENCE, &[5; 12]));
        fields.extend(der(SEQUENCE, &[5; 300]));
        fields.extend(der(SEQUENCE, &[from, to].concat()));
        fields.extend([0; 40]);
        der(SEQUENCE, &[der(SEQUENCE, &fields), vec![0; 80]].concat())
    }

    #[test]
    fn end_is_read_from_either_form_of_time() {
        let utc = |text: &[u8]| der(UTC_TIME, text);
        let general = |text: &[u8]| der(GENERALIZED_TIME, text);
        let seconds =
            |certificate: &[u8]| validity(certificate).map(|valid| valid.end.as_millis() / 1_000);
        let from = utc(b"250101000000Z");
        for version in [true, false] {
            let to = certificate(version, &from, &utc(b"260130120000Z"));
            assert_eq!(seconds(&to), Some(1_769_774_400));
            let to = certificate(version, &from, &general(b"20500101000000Z"));
            assert_eq!(seconds(&to), Some(2_524_608_000));
        }
        for odd in [&b"260130120000"[..], b"2601301200Z", b"26013012000\xffZ", b"269930120000Z"] {
            assert_eq!(seconds(&certificate(true, &from, &utc(odd))), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 0_usize..500) {
            validity(&bytes);
            let mut whole = certificate(true, &der(UTC_TIME, b"250101000000Z"), &bytes);
            whole.truncate(cut);
            validity(&whole);
        }
    }
}
