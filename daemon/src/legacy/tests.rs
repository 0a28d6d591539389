use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

macro_rules! python_psi {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/vectors/python-psi/", $name))
    };
}

/// The data key of `cache-hsm.enc`, as OpenSSL unwraps it with `hsm-key.pem`.
const HSM_CACHE_KEY: [u8; 32] = [
    0x29, 0xd6, 0xaf, 0xea, 0x62, 0x58, 0xa5, 0x17, 0x9b, 0x84, 0x55, 0xdb, 0x64, 0xfb, 0x53, 0x9f,
    0xca, 0x90, 0xbb, 0xe7, 0x58, 0xab, 0x1c, 0x50, 0x83, 0x00, 0x59, 0x76, 0xd6, 0xb5, 0x90, 0x3e,
];

fn data_key(bytes: &[u8]) -> DataKey {
    DataKey::from_secret(&SecretBytes::new(bytes.to_vec())).unwrap()
}

/// A file of the tpm backend with this text inside.
fn sealed(text: &[u8]) -> Vec<u8> {
    let nonce = [3; NONCE_LEN];
    let mut file = [b"PSIC\x01\x01".as_slice(), &nonce].concat();
    let text = SecretBytes::new(text.to_vec());
    Aead::new(&data_key(&[1; 32])).seal(nonce, &[], &text, &mut file);
    file
}

fn open(file: &[u8]) -> Result<OldCache, LegacyError> {
    SealedCache::parse(file)?.open(&data_key(&[1; 32]))
}

fn why(payload: &Value) -> LegacyError {
    open(&sealed(payload.to_string().as_bytes())).err().unwrap()
}

/// The mappings of the fixture, with their values.
fn mappings() -> Vec<(Reference, String)> {
    let expected: BTreeMap<String, String> =
        serde_json::from_slice(python_psi!("expected.json")).unwrap();
    let of = |id: &str| expected[id].clone();
    vec![
        python_psi!("secrets/1ee330a75e00f545b7c84b3d7").as_slice(),
        python_psi!("secrets/643da2cd5b0f5663f9aa96571"),
        python_psi!("secrets/8833064224be5b82ad86188e1"),
        python_psi!("secrets/8dbd5f88781377d60930974b1"),
        python_psi!("secrets/e92e0a52f607c97160bcf7395"),
        python_psi!("secrets/f2bfe98caf976732af42c5fc4"),
        python_psi!("secrets/f56500cf4ddc431f8bc8eb737"),
    ]
    .into_iter()
    .map(|bytes| mapping::parse(bytes).unwrap())
    .zip([
        of("1ee330a75e00f545b7c84b3d7"),
        of("643da2cd5b0f5663f9aa96571"),
        of("8833064224be5b82ad86188e1"),
        of("8dbd5f88781377d60930974b1"),
        of("e92e0a52f607c97160bcf7395"),
        of("f2bfe98caf976732af42c5fc4"),
        of("f56500cf4ddc431f8bc8eb737"),
    ])
    .collect()
}

#[test]
fn caches_of_both_backends_open_to_every_value() {
    let tpm = SealedCache::parse(python_psi!("cache-tpm.enc")).unwrap();
    assert!(tpm.wrapped().is_none());
    let hsm = SealedCache::parse(python_psi!("cache-hsm.enc")).unwrap();
    assert_eq!(hsm.wrapped().map(<[u8]>::len), Some(256));
    let mappings = mappings();
    for (sealed, key) in [(tpm, &python_psi!("psi-cache-key")[..]), (hsm, &HSM_CACHE_KEY)] {
        let cache = sealed.open(&data_key(key)).unwrap();
        assert_eq!(cache.written_at().as_millis(), 1_795_434_718_000);
        for (mapping, expected) in &mappings {
            let value = cache.value(mapping).unwrap();
            assert_eq!(&STANDARD.encode(value.expose_secret()), expected, "{mapping}");
        }
        assert_eq!(cache.len(), mappings.len());
        let mapped = cache.by_mapping(mappings.iter().skip(2).map(|(mapping, _)| mapping));
        assert_eq!((mapped.found.len(), mapped.without_mapping), (mappings.len() - 2, 2));
    }
}

#[test]
fn parse_and_open_reject_malformed_files() {
    let text = json!({"version": 2, "written_at": 1, "hmac_key": "", "entries": {}}).to_string();
    let file = sealed(text.as_bytes());
    assert!(open(&file).unwrap().is_empty());
    let sealed = SealedCache::parse(&file).unwrap();
    assert_eq!(sealed.open(&data_key(&[2; 32])).err(), Some(LegacyError::NotAuthentic));
    for (length, error) in [
        (0, LegacyError::Truncated),
        (5, LegacyError::Truncated),
        (17, LegacyError::Truncated),
        (33, LegacyError::Truncated),
        (34, LegacyError::NotAuthentic),
        (file.len() - 1, LegacyError::NotAuthentic),
    ] {
        assert_eq!(open(&file[..length]).err(), Some(error), "{length}");
    }
    let with = |at: usize, byte: u8| {
        let mut file = file.clone();
        file[at] = byte;
        open(&file).err().unwrap()
    };
    assert_eq!(with(0, b'X'), LegacyError::Foreign(NotACache::WrongMagic));
    assert_eq!(with(4, 2), LegacyError::Version(2));
    assert_eq!(with(5, 7), LegacyError::Foreign(NotACache::UnknownBackend(7)));
    // The header is not authenticated: the rest is parsed as a file of the other backend.
    assert_eq!(with(5, 2), LegacyError::Truncated);
    let hsm = open(b"PSIC\x01\x02\x00\x10").err();
    assert_eq!(hsm, Some(LegacyError::Envelope(HybridError::WrappedLength(16))));
}

#[test]
fn open_rejects_malformed_content() {
    let good =
        json!({"version": 2, "written_at": 1, "hmac_key": "AAAA", "entries": {"ab": "AAAA"}});
    assert_eq!(open(&sealed(good.to_string().as_bytes())).unwrap().len(), 1);
    for member in ["version", "written_at", "hmac_key", "entries"] {
        let mut payload = good.clone();
        payload.as_object_mut().unwrap().remove(member);
        let LegacyError::Missing(missing) = why(&payload) else { panic!("{member}") };
        assert_eq!(missing, member);
    }
    let with = |member: &str, value: Value| {
        let mut payload = good.clone();
        payload[member] = value;
        why(&payload)
    };
    assert_eq!(with("version", json!(1)), LegacyError::PayloadVersion(1));
    assert_eq!(with("version", json!(3)), LegacyError::PayloadVersion(3));
    assert_eq!(with("version", json!("2")), LegacyError::OtherType);
    assert_eq!(with("written_at", json!(-1)), LegacyError::OtherType);
    assert_eq!(with("hmac_key", json!("A")), LegacyError::NotBase64("hmac_key"));
    assert_eq!(with("entries", json!({"ab": "A*AA"})), LegacyError::NotBase64("entries"));
    assert_eq!(with("entries", json!({"ab": 1})), LegacyError::OtherType);
    assert_eq!(with("entries", json!(["ab"])), LegacyError::OtherType);
    assert_eq!(open(&sealed(b"secret, not JSON")).err(), Some(LegacyError::NotJson));
    assert_eq!(open(&sealed(b"\xff")).err(), Some(LegacyError::NotJson));
    assert_eq!(open(&sealed(b"")).err(), Some(LegacyError::NotJson));
}

/// The JSON parser quotes unexpected values, which are secret.
#[test]
fn errors_do_not_quote_the_content() {
    for payload in [json!("hunter2"), json!({"version": "hunter2"}), json!({"entries": "hunter2"})]
    {
        assert!(!why(&payload).to_string().contains("hunter2"));
    }
}

#[test]
fn parse_accepts_the_members_of_each_provider_only() {
    for (text, good) in [
        (r#"{"provider": "infisical", "project": "p", "path": "/", "key": "K"}"#, true),
        (r#" {"key":"K","project":"p","provider":"infisical"} "#, true),
        (r#"{"provider":"infisical","project":"p","path":"/"}"#, false),
        (r#"{"provider":"infisical","project":"","path":"/","key":"K"}"#, false),
        (r#"{"provider":"infisical","project":"p","path":"/","key":"K","more":"x"}"#, false),
        (r#"{"provider":"infisical","project":"p","path":"/","key":1}"#, false),
        (r#"{"provider":"nitrokeyhsm","blob":"AQA="}"#, true),
        (r#"{"provider":"nitrokeyhsm"}"#, false),
        (r#"{"provider":"nitrohsm","blob":"AQA="}"#, false),
        (r#"{"project":"p","path":"/","key":"K"}"#, false),
        ("myproject:/app:KEY", false),
        ("", false),
    ] {
        assert_eq!(mapping::parse(text.as_bytes()).is_ok(), good, "{text}");
    }
}

/// The output of Python's own `json.dumps` for each object.
fn python(objects: &[BTreeMap<String, String>]) -> Vec<String> {
    let mut python = Command::new("python3")
        .args(["-c", "import json, sys\nfor o in json.load(sys.stdin): print(json.dumps(o, separators=(',', ':'), sort_keys=True))"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, of `make deps`");
    let input = serde_json::to_vec(objects).unwrap();
    python.stdin.take().unwrap().write_all(&input).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn canonical(object: &BTreeMap<String, String>) -> String {
    mapping::canonical(&Reference::parse(&serde_json::to_vec(object).unwrap()).unwrap())
}

/// Any text, often with characters that are escaped or at the edges of the sort order.
fn text() -> impl Strategy<Value = String> {
    let edges =
        "[\u{0}-\u{20}\"\\\\/~\u{7f}\u{80}\u{ff}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}]{0,6}";
    prop_oneof![any::<String>(), edges]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// 200 objects for each start of the interpreter.
    #[test]
    fn canonical_equals_python_s_output(mut objects in prop::collection::vec(prop::collection::btree_map(text(), text(), 0..6), 200)) {
        for object in &mut objects {
            object.entry("provider".into()).or_insert_with(|| "infisical".into());
        }
        let written = python(&objects);
        prop_assert_eq!(written.len(), objects.len());
        for (object, written) in objects.iter().zip(&written) {
            prop_assert_eq!(&canonical(object), written);
        }
    }
}

#[test]
fn canonical_escapes_each_character_as_python_does() {
    let of = |c: char| BTreeMap::from([("provider".to_owned(), c.to_string())]);
    let objects: Vec<_> = ('\0'..='\u{ff}').map(of).collect();
    let ours: Vec<_> = objects.iter().map(canonical).collect();
    assert_eq!(ours, python(&objects));
    assert_eq!(canonical(&of('\u{1f511}')), r#"{"provider":"\ud83d\udd11"}"#);
}

proptest! {
    #[test]
    fn open_reads_what_the_python_psi_seals(written_at: u32, hmac_key: [u8; 32], entries in prop::collection::hash_map(any::<String>(), prop::collection::vec(any::<u8>(), 0..60), 0..8), other: String) {
        let of = |key: &str| Reference::new("infisical", [("project", "p"), ("path", "/"), ("key", key)]);
        let name = |key: &str| {
            let cache = OldCache { written_at: Timestamp::default(), hmac_key: SecretBytes::new(hmac_key.to_vec()), entries: HashMap::new() };
            cache.name(&of(key))
        };
        let stored: BTreeMap<_, _> = entries.iter().map(|(key, value)| (name(key), STANDARD.encode(value))).collect();
        let payload = json!({"version": 2, "written_at": written_at, "hmac_key": STANDARD.encode(hmac_key), "entries": stored});
        let cache = open(&sealed(payload.to_string().as_bytes())).unwrap();
        prop_assert_eq!(cache.written_at().as_millis(), u64::from(written_at) * 1_000);
        for (key, value) in &entries {
            prop_assert_eq!(cache.value(&of(key)).unwrap().expose_secret(), &value[..]);
        }
        prop_assert_eq!(cache.value(&of(&other)).is_some(), entries.contains_key(&other));
    }

    #[test]
    fn open_rejects_any_flipped_bit(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let text = json!({"version": 2, "written_at": 1, "hmac_key": "AAAA", "entries": {"ab": "AAAA"}});
        let mut file = sealed(text.to_string().as_bytes());
        let at = at.index(file.len());
        file[at] ^= 1u8 << bit;
        prop_assert!(open(&file).is_err());
    }

    #[test]
    fn open_and_parse_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), text: String) {
        let _ = open(&bytes);
        for tag in [1, 2] {
            let _ = open(&[&b"PSIC\x01"[..], &[tag], &bytes].concat());
        }
        let _ = open(&sealed(&bytes));
        let _ = open(&sealed(text.as_bytes()));
        let _ = mapping::parse(&bytes);
    }
}
