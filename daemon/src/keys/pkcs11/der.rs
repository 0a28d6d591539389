//! The few DER values that public keys and signatures consist of.

const INTEGER: u8 = 2;
const OCTETS: u8 = 4;
const SEQUENCE: u8 = 0x30;

/// A positive number of big-endian bytes.
pub(super) fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = &number[zeros..];
    let is_padded = digits.first().is_none_or(|first| first & 0x80 != 0);
    let padding: &[u8] = if is_padded { &[0] } else { &[] };
    tagged(INTEGER, &[padding, digits].concat())
}

/// A sequence of encoded values.
pub(super) fn sequence(values: &[Vec<u8>]) -> Vec<u8> {
    tagged(SEQUENCE, &values.concat())
}

/// The content of an octet string; the text itself if it is none, as some modules have it.
pub(super) fn octets(text: &[u8]) -> Option<&[u8]> {
    match text {
        [OCTETS, length, rest @ ..] if usize::from(*length) == rest.len() && *length < 0x80 => {
            Some(rest)
        }
        [OCTETS, 0x81, length, rest @ ..] if usize::from(*length) == rest.len() => Some(rest),
        other => (!other.is_empty()).then_some(other),
    }
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let length = &length[zeros..];
    let head = match length {
        [] => vec![tag, 0],
        [short] if *short < 0x80 => vec![tag, *short],
        // A length has at most eight bytes.
        long => [&[tag, 0x80 | long.len() as u8], long].concat(),
    };
    [&head, content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_positive_and_short() {
        for (number, encoded) in [
            (&[][..], &[2, 1, 0][..]),
            (&[0, 0], &[2, 1, 0]),
            (&[0, 1], &[2, 1, 1]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[1, 0, 1], &[2, 3, 1, 0, 1]),
        ] {
            assert_eq!(integer(number), encoded);
        }
    }

    #[test]
    fn lengths_have_their_long_form() {
        assert_eq!(sequence(&[vec![7; 127]])[..2], [0x30, 127]);
        assert_eq!(sequence(&[vec![7; 128]])[..3], [0x30, 0x81, 128]);
        assert_eq!(sequence(&[vec![7; 256]])[..4], [0x30, 0x82, 1, 0]);
    }

    #[test]
    fn octets_are_unwrapped_once() {
        assert_eq!(octets(&[4, 2, 4, 9]), Some(&[4, 9][..]));
        assert_eq!(octets(&[4, 9, 9]), Some(&[4, 9, 9][..]), "a bare point");
        assert_eq!(octets(&[]), None);
        let long = [&[4, 0x81, 133][..], &[4; 133]].concat();
        assert_eq!(octets(&long), Some(&[4; 133][..]));
    }
}
