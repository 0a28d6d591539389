//! The token handle and its worker thread.

use serde_json::{Value, json};

use psi_harness::{Probe, Token, eventually, hex, repository};

/// The key that is wrapped in these tests.
pub(super) const KEY: [u8; 32] = [5; 32];

pub(super) fn wrap(probe: &mut Probe) -> Value {
    let wrapped = probe.ok(json!({ "do": "wrap", "key": hex(&KEY) }));
    json!({ "do": "unwrap", "wrapped": wrapped["wrapped"] })
}

/// Makes a call that needs the private key.
#[track_caller]
pub(super) fn unwraps(probe: &mut Probe, unwrap: &Value) {
    assert_eq!(probe.ok(unwrap.clone())["key"], hex(&KEY));
}

fn sign() -> Value {
    json!({ "do": "sign", "message": "707369" })
}

#[track_caller]
fn state(probe: &mut Probe) -> String {
    probe.ok(json!({ "do": "state" }))["state"].as_str().unwrap().to_owned()
}

#[test]
fn token_unwraps_a_key_and_signs_a_message() {
    let token = Token::kryoptic();
    let mut probe = Probe::of_token(&token);
    assert_eq!(state(&mut probe), "unused");
    let unwrap = wrap(&mut probe);
    unwraps(&mut probe, &unwrap);
    let signed = probe.ok(sign());
    assert_eq!((&signed["verifies"], &signed["bits"]), (&json!(true), &json!(2048)));
    assert_eq!(state(&mut probe), "ready");
    assert_eq!((token.calls("C_Initialize"), token.calls("C_Login")), (1, 1), "once for all");
    assert_eq!(token.calls("C_OpenSession"), 1);
}

#[test]
fn token_description_is_complete() {
    let token = Token::kryoptic();
    let mut probe = Probe::of_token(&token);
    let described = probe.ok(json!({ "do": "describe" }));
    let (token, key) = (described["token"].as_str().unwrap(), described["key"].as_str().unwrap());
    for words in
        ["label: \"psi\"", "slot: 1", "rsa_oaep: true", "sha256_rsa_pkcs: true", "pin: Good"]
    {
        assert!(token.contains(words), "{words}: {token}");
    }
    for words in [
        "label: \"podman-secrets\"",
        "id: \"02\"",
        "bits: 2048",
        "may_decrypt: true",
        "may_sign: true",
        "unwrapping: OaepSha256",
    ] {
        assert!(key.contains(words), "{words}: {key}");
    }
}

/// The wrapped key in a file of the Python PSI: `PSIC`, version, backend, length, wrapped key.
#[test]
fn key_wrapped_by_the_python_psi_is_unwrapped() {
    let token = Token::of_the_vectors();
    let file = repository().join("tests/vectors/python-psi/cache-hsm.enc");
    let file = std::fs::read(file).unwrap();
    assert_eq!(file[..8], *b"PSIC\x01\x02\x01\x00");
    let mut probe = Probe::of_token(&token);
    let key = probe.ok(json!({ "do": "unwrap", "wrapped": hex(&file[8..8 + 256]) }));
    assert_eq!(key["key"].as_str().unwrap().len(), 2 * 32);
}

/// Damaged input, or input for another key, does not end the session.
#[test]
fn undecryptable_input_is_refused_and_the_session_continues() {
    let token = Token::kryoptic();
    let mut probe = Probe::of_token(&token);
    let unwrap = wrap(&mut probe);
    for wrapped in ["07".repeat(256), "07".repeat(25), String::new()] {
        let error = probe.fails(json!({ "do": "unwrap", "wrapped": wrapped }));
        assert!(error.starts_with("Refused: the token cannot decrypt the data: "), "{error}");
        assert!(error.contains("it was wrapped for another key, or is damaged"), "{error}");
        unwraps(&mut probe, &unwrap);
    }
}

/// SoftHSM 2.6.1 lists CKM_RSA_PKCS_OAEP and supports SHA-1 only.
#[test]
fn token_without_sha_256_is_reported() {
    let token = Token::softhsm();
    let mut probe = Probe::of_token(&token);
    let unwrap = wrap(&mut probe);
    let error = probe.fails(unwrap);
    assert!(
        error.starts_with("Refused: the token does not decrypt RSA-OAEP with SHA-256 "),
        "{error}"
    );
    assert!(error.contains("CKR_ARGUMENTS_BAD; it does RSA-OAEP with SHA-1 only; "), "{error}");
    assert_eq!(probe.ok(sign())["verifies"], true);
    let described = probe.ok(json!({ "do": "describe" }));
    assert!(described["key"].as_str().unwrap().contains("unwrapping: OaepSha1"), "{described}");
}

#[test]
fn key_is_selected_by_id_and_token_by_slot() {
    let token = Token::kryoptic();
    token.generate_key("podman-secrets", "03", &["--usage-decrypt", "--usage-sign"]);
    let mut by_id = token.setup();
    by_id["key_id"] = "03".into();
    by_id["label"].take();
    by_id["slot"] = 1.into();
    let mut probe = Probe::with_tokens(&token, &[by_id, token.setup()]);
    let unwrap = wrap(&mut probe);
    unwraps(&mut probe, &unwrap);
    let error = probe.fails(json!({ "do": "sign", "message": "", "token": 1 }));
    let expected = "NoKey: more than one private key of the token has the label 'podman-secrets'; ";
    assert!(error.starts_with(expected) && error.contains("key_id"), "{error}");
}

#[test]
fn missing_key_is_reported_with_existing_keys() {
    let token = Token::without_key();
    let mut probe = Probe::of_token(&token);
    let error = probe.fails(sign());
    let expected = "NoKey: the token has no private key with the label 'podman-secrets': ";
    assert!(error.starts_with(&format!("{expected}it has no RSA key; ")), "{error}");
    assert!(error.contains("--keypairgen"), "{error}");
    token.generate_key("other", "07", &["--usage-sign"]);
    let error = probe.fails(sign());
    assert!(error.starts_with(&format!("{expected}its RSA keys are 'other'; ")), "{error}");
    // No restart is needed.
    token.generate_key("podman-secrets", "02", &["--usage-sign"]);
    assert_eq!(probe.ok(sign())["verifies"], true);
}

#[test]
fn restricted_key_is_reported() {
    let token = Token::without_key();
    token.generate_key("podman-secrets", "02", &["--usage-decrypt"]);
    token.generate_key("other", "03", &["--usage-sign"]);
    let mut other = token.setup();
    other["key_label"] = "other".into();
    let mut probe = Probe::with_tokens(&token, &[token.setup(), other]);
    let unwrap = wrap(&mut probe);
    unwraps(&mut probe, &unwrap);
    let error = probe.fails(sign());
    assert!(error.contains("does not sign with CKM_SHA256_RSA_PKCS: "), "{error}");
    assert!(error.contains("--usage-sign"), "{error}");
    let mut unwrap = unwrap;
    unwrap["token"] = 1.into();
    let error = probe.fails(unwrap);
    assert!(
        error.contains("CKR_KEY_FUNCTION_NOT_PERMITTED; it does not decrypt at all; "),
        "{error}"
    );
}

/// The session ends with the token, and the next call opens a new one.
#[test]
fn reinserted_token_needs_no_restart() {
    let token = Token::kryoptic();
    let mut probe = Probe::of_token(&token);
    let unwrap = wrap(&mut probe);
    token.pull_out();
    for _ in 0..2 {
        let error = probe.fails(unwrap.clone());
        let expected = "Absent: no token has the label 'psi': there is no token; plug the token in";
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(state(&mut probe), "away");
    }
    token.put_back();
    unwraps(&mut probe, &unwrap);
    assert_eq!(state(&mut probe), "ready");
    assert_eq!(token.calls("C_Login"), 2, "{}", probe.stderr());
}

#[test]
fn token_inserted_later_is_found() {
    for token in [Token::kryoptic(), Token::softhsm()] {
        token.lose_storage();
        let mut probe = Probe::of_token(&token);
        let error = probe.fails(sign());
        assert!(error.starts_with("Absent: no token has the label 'psi': there is '"), "{error}");
        token.find_storage();
        assert_eq!(probe.ok(sign())["verifies"], true);
    }
}

/// The first call after a restart of pcscd opens a new session and succeeds.
#[test]
fn restart_of_pcscd_fails_no_call() {
    let token = Token::kryoptic();
    let mut probe = Probe::of_token(&token);
    let unwrap = wrap(&mut probe);
    token.pull_out();
    probe.fails(json!({ "do": "describe" }));
    token.put_back();
    unwraps(&mut probe, &unwrap);
    for value in ["5", "6", "48", "179", "257", "400"] {
        // One each of CKR_GENERAL_ERROR, _FUNCTION_FAILED, _DEVICE_ERROR, _SESSION_HANDLE_INVALID,
        // _USER_NOT_LOGGED_IN and _CRYPTOKI_NOT_INITIALIZED, until the module is initialised again.
        token.break_with("until-initialized", value);
        unwraps(&mut probe, &unwrap);
    }
}

#[test]
fn killed_predecessor_does_not_block_the_token() {
    for token in [Token::kryoptic(), Token::softhsm()] {
        let mut predecessor = Probe::of_token(&token);
        predecessor.ok(sign());
        token.break_with("hang-C_Sign", "");
        predecessor.begin(sign());
        eventually("the call to begin", || (token.calls("C_Sign") > 1).then_some(()));
        predecessor.kill();
        token.repair("hang-C_Sign");
        assert_eq!(Probe::of_token(&token).ok(sign())["verifies"], true);
    }
}

#[test]
fn missing_module_is_reported_and_found_later() {
    let token = Token::kryoptic();
    let directory = tempfile::tempdir().unwrap();
    let module = directory.path().join("module.so");
    let mut setup = token.setup();
    let there = setup["module"].as_str().unwrap().to_owned();
    setup["module"] = module.to_str().into();
    let mut probe = Probe::with_tokens(&token, &[setup]);
    let error = probe.fails(sign());
    let expected = format!("Absent: the PKCS#11 module {} cannot be loaded: ", module.display());
    assert!(error.starts_with(&expected) && error.contains("pkcs11_module"), "{error}");
    std::fs::write(&module, "no module").unwrap();
    assert!(probe.fails(sign()).starts_with(&expected));
    std::fs::remove_file(&module).unwrap();
    std::os::unix::fs::symlink(there, &module).unwrap();
    assert_eq!(probe.ok(sign())["verifies"], true);
}

/// A module that returns wrong lengths makes the thread panic: the call fails, and the next one has
/// a new thread.
#[test]
fn dead_worker_thread_is_reported_and_replaced() {
    let token = Token::kryoptic();
    let mut probe = Probe::of_token(&token);
    let unwrap = wrap(&mut probe);
    token.break_with("absurd", "");
    let error = probe.fails(unwrap.clone());
    assert!(error.starts_with("Broken: the thread that owns the token crashed; "), "{error}");
    // It still closes the open session.
    eventually("the thread's end", || (state(&mut probe) == "away").then_some(()));
    token.repair("absurd");
    unwraps(&mut probe, &unwrap);
    assert_eq!(state(&mut probe), "ready");
}
