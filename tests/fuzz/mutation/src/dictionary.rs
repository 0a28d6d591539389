//! libFuzzer's dictionaries: a word a line, `"in\x20quotes"`, with comments.

/// The words of a dictionary; panics for an invalid line.
pub fn words(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(word).collect()
}

fn word(line: &str) -> Vec<u8> {
    let wrong = || -> ! { panic!("no word of a dictionary: {line}") };
    let quoted = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut rest = quoted.unwrap_or_else(|| wrong()).as_bytes();
    let mut word = Vec::new();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            word.push(*first);
            continue;
        }
        match rest {
            [escaped @ (b'\\' | b'"'), after @ ..] => {
                word.push(*escaped);
                rest = after;
            }
            [b'x', high, low, after @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_else(|| wrong());
                word.extend(u8::try_from(digit(high) * 16 + digit(low)));
                rest = after;
            }
            _ => wrong(),
        }
    }
    word
}

#[test]
fn dictionary_parses_like_libfuzzer() {
    let text = "# comment\n\n\"plain\"\n  \"\\x00\\xff \\\"\\\\\"\n";
    assert_eq!(words(text), [b"plain".to_vec(), b"\0\xff \"\\".to_vec()]);
    for line in ["plain", "\"", "\"\\n\"", "\"\\xg0\""] {
        assert!(std::panic::catch_unwind(|| words(line)).is_err(), "{line}");
    }
}
