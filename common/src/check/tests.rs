use super::printable::is_unprintable;
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
/// The checks of texts that are written without quotes into a unit, an argument or a file's name.
const PLAIN: [Check; 6] = [secret_name, unit, workload, variable, file_name, credential];

/// Any text, mostly near a valid one, often with one bad character in it.
fn nearly_valid() -> impl Strategy<Value = String> {
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
fn checks_accept_valid_text() {
    for (check, texts) in [
        (secret_name as Check, &["app--DB_HOST", "a", "0.b-c_"][..]),
        (foreign_secret_name, &["..", "-a", "a b", "ä", "0"]),
        (key, &["DB_HOST", "tls.key", "a b", "ä", "a/b", "...", "%2e", "\u{202e}x"]),
        (project, &["myproject", "Mein Projekt"]),
        (path, &["/", "/a", "/a/b", "//a//", "/a b/ä", "/..a/b../..."]),
        (
            unit,
            &["network-online.target", "a@b\\x2d.service", "a@.service", "dev-sda\\x2d1.device"],
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
fn checks_reject_text_with_another_meaning_at_its_destination() {
    for (check, texts) in [
        (secret_name as Check, &["", "-a", ".a", "a b", "a,b", "a=b", "a/b", "a\n", "%h", "ä"][..]),
        (foreign_secret_name, &["", "a,b", "a=b", "a/b", "a\0", "a\x1b[0m", "a\u{9b}"]),
        (
            key,
            &["", ".", "..", ".\t.", "\t", "a\tb", "a\0", "a\n", "a\r", "\x1b]0;x\x07", "\u{85}"],
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
        (workload, &["", "@", "a@b@", "a@@", "../etc", "a/b", "a\n[Service]", "-a", "a%i", "ä"]),
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
        assert!(check(&"a".repeat(longest)).is_ok() && check(&"a".repeat(longest + 1)).is_err());
    }
    assert!(unit(&format!("{}.service", "a".repeat(248))).is_err());
}

#[test]
fn printable_escapes_hidden_characters() {
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
    fn accepted_text_has_no_control_character(text in nearly_valid()) {
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
    fn accepted_paths_and_keys_are_unchanged_by_a_url_parser(text in nearly_valid()) {
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
    fn errors_are_one_short_printable_line(text in any::<String>()) {
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

#[test]
fn mount_options_are_those_that_podman_takes() {
    for text in ["server.key", "/etc/ssl/a.pem", "../up", "a/../b", "a=b", "...", "a//b", "-x"] {
        assert_eq!(mount_target(text), Ok(()), "{text}");
    }
    for text in [
        "", "/", ".", "..", "a/", "a/.", "/..", "a b", "a,b", "a\"b", "%h", "a\\b", "a\nb",
        "\u{e4}",
    ] {
        mount_target(text).expect_err(text);
    }
    mount_target(&"x".repeat(256)).unwrap_err();
    mount_target(&"x/".repeat(2_048)).unwrap_err();
    assert_eq!((mount_mode(0), mount_mode(0o777)), (Ok(()), Ok(())));
    mount_mode(0o1000).unwrap_err();
    assert_eq!((mount_owner(0), mount_owner(u32::MAX - 1)), (Ok(()), Ok(())));
    mount_owner(u32::MAX).unwrap_err();
}

proptest! {
    /// Podman splits its option at commas, systemd expands `%` and reads quotes.
    #[test]
    fn mount_targets_are_one_word_of_one_option(text in any::<String>()) {
        if mount_target(&text).is_ok() {
            prop_assert!(!text.contains([',', '%', '"', '\'', '\\']));
            prop_assert!(!text.contains(char::is_whitespace) && !text.ends_with('/'));
        }
    }
}
