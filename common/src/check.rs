//! Checks of text that crosses a boundary: from a provider, from podman, over the socket.
//!
//! Both programs call these before they write, pass on, execute or print such text. psid is the
//! network-facing process, psi-driver runs as root: neither relies on the other's check.

use std::borrow::Cow;
use std::fmt;

/// The longest name of a podman secret, from podman 4.6 on.
const LONGEST_SECRET_NAME: usize = 253;
/// The longest key that Infisical's server stores; a longer one is an error 500.
const LONGEST_KEY: usize = 2_600;
/// The longest path of a provider's directory, and the longest name of a project.
const LONGEST_PATH: usize = 4_096;
/// systemd's UNIT_NAME_MAX.
const LONGEST_UNIT: usize = 255;
/// Linux's NAME_MAX, which limits a credential's file.
const LONGEST_FILE_NAME: usize = 255;
/// The characters of a refused text that a message shows.
const LONGEST_SHOWN: usize = 60;

/// The unit types of systemd.unit(5).
const UNIT_TYPES: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// A refused text. Its message is one short line without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidText {
    kind: &'static str,
    shown: String,
    why: &'static str,
}

/// Checks the name of a podman secret that psi makes: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, which every podman
/// takes and no shell, unit or command line has to quote.
pub fn secret_name(text: &str) -> Result<(), InvalidText> {
    let refuse = refusal("the secret name", text);
    if text.len() > LONGEST_SECRET_NAME {
        return refuse("is longer than 253 bytes");
    }
    if is_plain_name(text) {
        return Ok(());
    }
    refuse(
        "has a character that is not a letter, a digit or one of _.-, or does not begin with a letter or digit",
    )
}

/// Checks the name of a podman secret of any origin: podman ≥ 4.7 takes all but `,`, `/`, `=` and NUL.
pub fn foreign_secret_name(text: &str) -> Result<(), InvalidText> {
    let refuse = refusal("the secret name", text);
    if text.is_empty() {
        return refuse("is empty");
    }
    if text.len() > LONGEST_SECRET_NAME {
        return refuse("is longer than 253 bytes");
    }
    if text.contains([',', '/', '=']) {
        return refuse("contains a comma, a slash or an equals sign");
    }
    without_controls("the secret name", text)
}

/// Checks a key of a provider: any text that stays one segment of a URL and one line of a report.
pub fn key(text: &str) -> Result<(), InvalidText> {
    let refuse = refusal("the key", text);
    if text.is_empty() {
        return refuse("is empty");
    }
    if text.len() > LONGEST_KEY {
        return refuse("is longer than 2600 bytes");
    }
    if matches!(text, "." | "..") {
        return refuse("is a dot segment");
    }
    without_controls("the key", text)
}

/// Checks the name of a project, as the config has it.
pub fn project(text: &str) -> Result<(), InvalidText> {
    let refuse = refusal("the project", text);
    if text.is_empty() {
        return refuse("is empty");
    }
    if text.len() > LONGEST_PATH {
        return refuse("is longer than 4096 bytes");
    }
    if matches!(text, "." | "..") {
        return refuse("is a dot segment");
    }
    without_controls("the project", text)
}

/// Checks the path of a provider's directory: absolute, without `.` and `..` as segments.
pub fn path(text: &str) -> Result<(), InvalidText> {
    let refuse = refusal("the path", text);
    if !text.starts_with('/') {
        return refuse("does not begin with /");
    }
    if text.len() > LONGEST_PATH {
        return refuse("is longer than 4096 bytes");
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return refuse("contains a dot segment");
    }
    without_controls("the path", text)
}

/// Checks the full name of a systemd unit, as systemd's `unit_name_is_valid` does.
pub fn unit(text: &str) -> Result<(), InvalidText> {
    let refuse = refusal("the unit", text);
    if text.len() > LONGEST_UNIT {
        return refuse("is longer than 255 bytes");
    }
    let Some((stem, kind)) = text.rsplit_once('.') else {
        return refuse("has no unit type, as in network-online.target");
    };
    if !UNIT_TYPES.contains(&kind) {
        return refuse("has no unit type that systemd knows");
    }
    if stem.is_empty() || stem.starts_with('@') {
        return refuse("has no name before its type");
    }
    if !stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)) {
        return refuse("has a character that systemd does not take");
    }
    Ok(())
}

/// Checks the name of a workload, which is the name of a quadlet unit and begins its secrets' names; one
/// `@` at the end names a template.
pub fn workload(text: &str) -> Result<(), InvalidText> {
    let name = text.strip_suffix('@').unwrap_or(text);
    if name.len() <= LONGEST_SECRET_NAME && is_plain_name(name) {
        return Ok(());
    }
    refusal("the workload", text)(
        "is not letters, digits and _.- that begin with a letter or digit, and @ at the end for a template",
    )
}

/// Checks the name of an environment variable: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn variable(text: &str) -> Result<(), InvalidText> {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.bytes().all(part) && text.bytes().next().is_some_and(|first| !first.is_ascii_digit()) {
        return Ok(());
    }
    refusal("the variable", text)(
        "is not letters, digits and underscores that do not begin with a digit",
    )
}

/// Checks the name of a file that no shell, unit or command line has to quote: `[a-zA-Z0-9_.-]+`, not a dot
/// segment.
pub fn file_name(text: &str) -> Result<(), InvalidText> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_dots = matches!(text, "." | "..");
    if !text.is_empty() && text.len() <= LONGEST_FILE_NAME && text.bytes().all(plain) && !is_dots {
        return Ok(());
    }
    refusal("the file name", text)("is not letters, digits and _.-, at most 255 of them")
}

/// Checks the name of a systemd credential, which is a file's name below the credentials directory.
pub fn credential(text: &str) -> Result<(), InvalidText> {
    if text.len() <= LONGEST_FILE_NAME && is_plain_name(text) {
        return Ok(());
    }
    refusal("the credential", text)(
        "is not letters, digits and _.- that begin with a letter or digit, at most 255 of them",
    )
}

/// Checks that text of any other kind is one line without control characters.
pub fn without_controls(kind: &'static str, text: &str) -> Result<(), InvalidText> {
    if text.contains(char::is_control) {
        return refusal(kind, text)("contains a control character");
    }
    Ok(())
}

/// Text with everything escaped that moves a terminal's cursor, changes the direction of what follows, or is
/// not seen at all. The escapes are those of JSON, so that JSON stays JSON.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, is_unprintable)
}

/// Several lines of text, each as [`printable`] makes it.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character != '\n' && is_unprintable(character))
}

/// The beginning of a text, for a message: at most 60 characters, as [`printable`] makes them.
pub fn excerpt(text: &str) -> String {
    let end = text.char_indices().nth(LONGEST_SHOWN).map_or(text.len(), |(at, _)| at);
    let mut shown = printable(&text[..end]).into_owned();
    if end < text.len() {
        shown.push('…');
    }
    shown
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            good if !is_bad(good) => shown.push(good),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            bad => {
                for unit in bad.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Cow::Owned(shown)
}

fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Marks, embeddings, overrides and isolates of the bidirectional algorithm.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Separators of lines and paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Without a glyph: soft hyphen, zero-width space, word joiner and its kind, byte order mark,
            // annotations, tags.
            | '\u{00ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

fn is_plain_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

fn refusal<'a>(
    kind: &'static str,
    text: &'a str,
) -> impl Fn(&'static str) -> Result<(), InvalidText> + 'a {
    move |why| Err(InvalidText { kind, shown: excerpt(text), why })
}

impl InvalidText {
    /// The reason alone, for a text that must not be shown.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

impl fmt::Display for InvalidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}' {}", self.kind, self.shown, self.why)
    }
}

impl std::error::Error for InvalidText {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Check = fn(&str) -> Result<(), InvalidText>;

    const ALL: [Check; 10] = [
        secret_name,
        foreign_secret_name,
        key,
        project,
        path,
        unit,
        workload,
        variable,
        file_name,
        credential,
    ];
    /// Those whose texts become a line of a unit, an argument or a file's name without quotes.
    const PLAIN: [Check; 6] = [secret_name, unit, workload, variable, file_name, credential];

    /// Any text, mostly near a valid one, often with one bad character in it.
    fn near() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-zA-Z0-9_.@-]{1,8}",
            1 => prop::sample::select(vec![
                "/", ".", "..", "\t", "\r", "\n", "\0", "\x1b[2J", "\x7f", "\u{85}", "\u{9b}1m", "\u{202e}",
                "\u{2066}", "\u{feff}", " ", "%", "'", "\"", "\\", "=", ",", "ä", ".service", "@",
            ]).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn checks_accept_what_their_users_write() {
        for (check, texts) in [
            (secret_name as Check, &["app--DB_HOST", "a", "0.b-c_"][..]),
            (foreign_secret_name, &["..", "-a", "a b", "ä", "0"]),
            (key, &["DB_HOST", "tls.key", "a b", "ä", "a/b", "...", "%2e", "\u{202e}x"]),
            (project, &["myproject", "Mein Projekt"]),
            (path, &["/", "/a", "/a/b", "//a//", "/a b/ä", "/..a/b../..."]),
            (
                unit,
                &[
                    "network-online.target",
                    "a@b\\x2d.service",
                    "a@.service",
                    "dev-sda\\x2d1.device",
                ],
            ),
            (workload, &["app", "worker@", "a.b"]),
            (variable, &["A", "_", "a1", "DB_HOST"]),
            (file_name, &["tls.pem", ".a", "-a", "..."]),
            (credential, &["psi-cache-key", "hsm.pin"]),
        ] {
            for text in texts {
                assert_eq!(check(text), Ok(()), "{text:?}");
            }
        }
    }

    #[test]
    fn checks_refuse_what_means_something_else_at_its_destination() {
        for (check, texts) in [
            (
                secret_name as Check,
                &["", "-a", ".a", "a b", "a,b", "a=b", "a/b", "a\n", "%h", "ä"][..],
            ),
            (foreign_secret_name, &["", "a,b", "a=b", "a/b", "a\0", "a\x1b[0m", "a\u{9b}"]),
            (
                key,
                &[
                    "",
                    ".",
                    "..",
                    ".\t.",
                    "\t",
                    "a\tb",
                    "a\0",
                    "a\n",
                    "a\r",
                    "\x1b]0;x\x07",
                    "\u{85}",
                ],
            ),
            (project, &["", "..", ".\t.", "a\nb"]),
            (path, &["", "a", "/..", "/a/../b", "/.", "/a/.", "/.\t.", "/a\n", "/a\0", "/\u{9d}"]),
            (
                unit,
                &[
                    "",
                    "network",
                    "a b.service",
                    "a.service\nExecStart=x",
                    ".service",
                    "a.",
                    "@.service",
                    "a.exe",
                    "a%i.service",
                    "a/b.service",
                    "ä.service",
                    "a.service ",
                ],
            ),
            (
                workload,
                &["", "@", "a@b@", "a@@", "../etc", "a/b", "a\n[Service]", "-a", "a%i", "ä"],
            ),
            (variable, &["", "1a", "a-b", "a=b", "a b", "A\n", "BASH_FUNC_x%%", "ä"]),
            (file_name, &["", ".", "..", "a/b", "a b", "a\n"]),
            (credential, &["", ".", "..", ".a", "a/b", "a:b", "a\n"]),
        ] {
            for text in texts {
                let error = check(text).expect_err(text).to_string();
                assert_eq!(printable(&error), error, "{text:?}");
            }
        }
        for (check, longest) in [(secret_name as Check, 253), (key, 2_600), (credential, 255)] {
            assert!(
                check(&"a".repeat(longest)).is_ok() && check(&"a".repeat(longest + 1)).is_err()
            );
        }
        assert!(unit(&format!("{}.service", "a".repeat(248))).is_err());
    }

    #[test]
    fn printable_text_shows_what_it_hides() {
        for (text, shown) in [
            ("plain ä 日本 'x' \\", "plain ä 日本 'x' \\"),
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("\x1b[31m\x07\x7f\0", "\\u001b[31m\\u0007\\u007f\\u0000"),
            ("\u{9b}31m\u{85}", "\\u009b31m\\u0085"),
            ("user\u{202e}nimda", "user\\u202enimda"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\nb\x1bc\n"), "a\nb\\u001bc\n");
        assert_eq!(excerpt(&"ä".repeat(61)), format!("{}…", "ä".repeat(60)));
    }

    proptest! {
        #[test]
        fn accepted_text_has_no_control_character(text in near()) {
            for check in ALL {
                if check(&text).is_ok() {
                    prop_assert!(!text.is_empty() && !text.contains(char::is_control));
                }
            }
            for check in PLAIN {
                if check(&text).is_ok() {
                    prop_assert!(text.is_ascii() && !text.contains(['/', '%', '"', '\'', '=', ',', ' ']));
                    prop_assert!(text != "." && text != "..");
                }
            }
        }

        #[test]
        fn accepted_paths_and_keys_are_what_a_url_parser_sees(text in near()) {
            if path(&text).is_ok() {
                // What the URL standard removes before it resolves dot segments.
                let seen: String = text.chars().filter(|c| !"\t\r\n".contains(*c)).collect();
                prop_assert_eq!(&seen, &text);
                prop_assert!(!seen.split('/').any(|part| part == "." || part == ".."));
            }
            if key(&text).is_ok() {
                prop_assert!(text != "." && text != "..");
            }
        }

        #[test]
        fn refusals_are_one_short_printable_line(text in any::<String>()) {
            for check in ALL {
                if let Err(error) = check(&text) {
                    let line = error.to_string();
                    prop_assert!(printable(&line) == line && line.chars().count() < 1_000);
                }
            }
        }

        #[test]
        fn printable_is_idempotent_and_leaves_nothing_unprintable(text in any::<String>()) {
            let shown = printable(&text).into_owned();
            prop_assert!(!shown.contains(is_unprintable));
            prop_assert_eq!(printable(&shown).into_owned(), shown.clone());
            let lines = printable_lines(&text).into_owned();
            prop_assert_eq!(lines.replace('\n', "\\n"), shown);
        }
    }
}
