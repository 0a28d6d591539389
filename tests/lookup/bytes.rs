//! Values are bytes: psi returns them unchanged, or refuses them before it stores anything.

use serde_json::json;

use psi_harness::{FakeInfisical, Instance, id, reference};

/// Podman's limit is 512,000, exclusive.
const LARGEST: usize = 511_999;

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Values that careless programs change.
fn easily_changed() -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = [
        &b"x"[..],
        b"\0",
        b"a\0b\0",
        b"\n",
        b"\r\n",
        b"no newline at the end",
        b"a newline at the end\n",
        b"\n\nlines\r\nof both kinds\n\r",
        b" blanks around ",
        b"\xff\xfe\x80 not UTF-8",
        b"\xef\xbb\xbfa BOM",
        b"$(id) `id` %s \\n ${HOME} 'quoted' \"twice\"",
        b"{\"user\":",
        b"@-",
        b"PSIL\x02\x01",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    values.push((0..=255).collect());
    values.push(random(LARGEST));
    values
}

/// N16: the Python PSI stored with `curl -d @-`, which strips newlines and NUL.
#[test]
fn n16_literal_is_returned_byte_for_byte_across_restart() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let values = easily_changed();
    for (number, value) in (0..).zip(&values) {
        assert_eq!(instance.driver(&["store"]).id(id(number)).stdin(value).text(), "");
    }
    let compare = || {
        for (number, value) in (0..).zip(&values) {
            let found = instance.driver(&["lookup"]).id(id(number)).ok();
            assert!(found == *value, "value {number}: {} bytes", found.len());
        }
    };
    compare();
    psid.terminate();
    let _psid = instance.start();
    compare();
}

#[test]
fn provider_value_is_returned_byte_for_byte_across_restart() {
    let values = [
        ("EMPTY", String::new()),
        ("LINES", "-----BEGIN-----\nabc\r\n\n-----END-----\n".into()),
        ("UNICODE", "pässwörd ключ 鍵 \u{1f511}\u{0}\u{7f}".into()),
        ("QUOTES", "{\"a\": \"b\\n\"} '$HOME' `x` \\".into()),
        ("BLANKS", "  \t around \n ".into()),
        ("LONG", "0123456789abcdef".repeat(32_000)),
    ];
    let directory: serde_json::Map<_, _> =
        values.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let mut infisical = FakeInfisical::with(&json!({"/myapp": directory}));
    let instance = Instance::of(&infisical);
    let psid = instance.start();
    let compare = || {
        for (number, (key, value)) in (0..).zip(&values) {
            let found = instance.driver(&["lookup"]).id(id(number)).ok();
            assert!(found == value.as_bytes(), "{key}: {} bytes", found.len());
        }
    };
    for (number, (key, _)) in (0..).zip(&values) {
        instance.driver(&["store"]).id(id(number)).stdin(reference("/myapp", key)).ok();
    }
    compare();
    psid.terminate();
    infisical.kill();
    let _psid = instance.start();
    compare();
}

#[test]
fn store_refuses_empty_and_oversized_input() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    for kind in [&["store"][..], &["store", "--literal"], &["store", "--reference"]] {
        for length in [0, LARGEST + 1, LARGEST + 4096] {
            instance.driver(kind).id(id(1)).stdin(vec![b'a'; length]).fails(65);
        }
    }
    assert_eq!(instance.driver(&["list"]).text(), "");
    assert!(!instance.state().join("secrets").join(id(1)).exists());
    instance.driver(&["store"]).id(id(1)).stdin(vec![b'a'; LARGEST]).ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).ok().len(), LARGEST);
}

/// Infisical has no such limit: a value that podman does not accept is refused by name, never
/// truncated.
#[test]
fn lookup_fails_for_a_value_above_podmans_limit() {
    let huge = "x".repeat(5 << 20);
    let infisical = FakeInfisical::with(&json!({"/myapp": {"HUGE": huge, "SMALL": "s"}}));
    let instance = Instance::of(&infisical);
    let _psid = instance.start();
    instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "HUGE")).ok();
    instance.driver(&["store"]).id(id(2)).stdin(reference("/myapp", "SMALL")).ok();
    let outcome = instance.driver(&["lookup"]).id(id(1)).run();
    assert_eq!((outcome.code, outcome.stdout.len()), (75, 0));
    let line = &outcome.stderr;
    assert!(line.contains("has 5242880 bytes, and podman accepts 512000"), "{line}");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "s");
}
