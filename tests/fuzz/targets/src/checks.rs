//! Text that crosses a boundary: names, keys, paths and units, and what people are shown.

use psi_common::check::{self, InvalidText};
use psi_common::chooses_code;

use crate::{Body, assert_words, choice};

type Check = fn(&str) -> Result<(), InvalidText>;

/// The checks, of which the first byte chooses one.
const CHECKS: [Check; 10] = [
    check::secret_name,
    check::workload,
    check::unit,
    check::variable,
    check::file_name,
    check::credential,
    check::key,
    check::path,
    check::project,
    check::foreign_secret_name,
];
/// The first of them, whose texts nothing has to quote.
const PLAIN: usize = 6;

/// What passes is harmless where it goes; what does not is named on one line; and whatever is shown, a
/// terminal takes none of it for an order.
pub(crate) fn open() -> Body {
    Box::new(|input| {
        let (chosen, text) = choice(input);
        let text = String::from_utf8_lossy(text);
        let number = usize::from(chosen) % CHECKS.len();
        match CHECKS[number](&text) {
            Ok(()) => passes(number, &text),
            Err(error) => assert_words(&error.to_string()),
        }
        shown(&text);
        // A shell takes a value for a function by its name's end alone.
        if text.ends_with("%%") || text.starts_with("LD_") || text == "PATH" {
            assert!(chooses_code(&text), "{text:?}");
        }
    })
}

fn passes(number: usize, text: &str) {
    assert!(!text.is_empty() && !text.contains(char::is_control), "{number}: {text:?}");
    if number < PLAIN {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-@:\\".contains(c);
        assert!(text.chars().all(plain), "{number}: {text:?}");
        assert!(text != "." && text != "..", "{number}: {text:?}");
    }
    // The URL standard's parser drops these, and then resolves dot segments.
    let seen: String = text.chars().filter(|c| !"\t\r\n".contains(*c)).collect();
    let mut segments = seen.split('/');
    match number {
        6 => assert!(seen != "." && seen != "..", "{text:?}"),
        7 => assert!(seen.starts_with('/') && segments.all(|one| one != "." && one != "..")),
        _ => {}
    }
}

fn shown(text: &str) {
    let orders = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    let line = check::printable(text);
    assert!(!line.contains(orders), "{line:?}");
    assert_eq!(check::printable(&line), line);
    if !text.contains(orders) && text.is_ascii() {
        assert_eq!(line, text);
    }
    // JSON stays JSON, and says the same.
    let json = serde_json::Value::from(text).to_string();
    assert_eq!(serde_json::from_str::<String>(&check::printable(&json)).unwrap(), text);
    assert!(check::excerpt(text).chars().count() <= 60 * 12 + 1);
}
