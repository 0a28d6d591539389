//! Logins to a token: three wrong PINs lock a real one, and two logins of one process interfere.

use std::fs;

use serde_json::{Value, json};

use super::token::{unwraps, wrap};
use psi_harness::{PIN, Probe, Token};

/// `CKF_USER_PIN_FINAL_TRY`
const FINAL_TRY: &str = "131072";
/// `CKF_USER_PIN_LOCKED`
const LOCKED: &str = "262144";
/// `CKR_PIN_LOCKED`
const PIN_LOCKED: &str = "164";
/// `CKR_USER_ALREADY_LOGGED_IN`
const ALREADY_LOGGED_IN: &str = "256";

fn sign() -> Value {
    json!({ "do": "sign", "message": "" })
}

#[track_caller]
fn state(probe: &mut Probe) -> String {
    probe.ok(json!({ "do": "state" }))["state"].as_str().unwrap().to_owned()
}

#[test]
fn wrong_pin_is_tried_once() {
    for token in [Token::kryoptic(), Token::softhsm()] {
        token.give_pin("11111111");
        let mut probe = Probe::of_token(&token);
        for _ in 0..5 {
            let error = probe.fails(sign());
            assert!(error.starts_with("Pin: the token refused the PIN in "), "{error}");
            assert!(error.contains("(CKR_PIN_INCORRECT), and psid will not retry it; "), "{error}");
            assert!(error.contains("psictl hsm preflight --retry"), "{error}");
            assert_eq!(state(&mut probe), "pin refused");
        }
        probe.ok(json!({ "do": "describe" }));
        assert_eq!(token.calls("C_Login"), 1);
        // Another PIN is tried without a restart.
        token.give_pin(PIN);
        assert_eq!(probe.ok(sign())["verifies"], true);
        assert_eq!((token.calls("C_Login"), state(&mut probe).as_str()), (2, "ready"));
    }
}

/// The token's own counter shows one attempt.
#[test]
fn token_received_one_attempt() {
    let token = Token::softhsm();
    assert!(!token.listing().contains("PIN count low"));
    token.give_pin("11111111");
    let mut probe = Probe::of_token(&token);
    (0..5).for_each(|_| drop(probe.fails(sign())));
    assert!(token.listing().contains("user PIN count low"), "{}", token.listing());
    // The PIN still works for others.
    token.user_tool(&["--list-objects"]);
}

#[test]
fn reload_and_restart_make_no_pin_attempt() {
    for token in [Token::kryoptic(), Token::softhsm()] {
        token.give_pin("11111111");
        for _ in 0..5 {
            let mut probe = Probe::of_token(&token);
            let error = probe.fails(sign());
            assert!(error.contains("(CKR_PIN_INCORRECT), and psid will not retry it"), "{error}");
            probe.ok(json!({ "do": "reload" }));
            probe.fails(sign());
        }
        assert_eq!(token.calls("C_Login"), 1);
        // Each new wrong PIN is one attempt; a refused one is not tried again.
        for pin in ["22222222", "11111111", "22222222"] {
            token.give_pin(pin);
            Probe::of_token(&token).fails(sign());
        }
        assert_eq!(token.calls("C_Login"), 2);
        token.give_pin(PIN);
        assert_eq!(Probe::of_token(&token).ok(sign())["verifies"], true);
    }
}

/// The token's PIN was changed back: the refused PIN is right again.
#[test]
fn retry_makes_one_attempt_and_its_success_ends_the_refusal() {
    let token = Token::kryoptic();
    token.give_pin("11111111");
    let mut running = Probe::of_token(&token);
    running.fails(sign());
    let mut setup = token.setup();
    setup["retry"] = true.into();
    let retry = || Probe::with_tokens(&token, &[setup.clone()]);
    let mut probe = retry();
    probe.fails(sign());
    probe.fails(sign());
    assert_eq!(token.calls("C_Login"), 2, "one more");
    token.change_pin("11111111");
    running.fails(sign());
    assert_eq!(token.calls("C_Login"), 2);
    assert_eq!(retry().ok(sign())["verifies"], true);
    assert_eq!(running.ok(sign())["verifies"], true);
    assert_eq!(token.calls("C_Login"), 4);
}

/// `CKR_GENERAL_ERROR`, `CKR_FUNCTION_FAILED`, `CKR_DEVICE_ERROR`, `CKR_DEVICE_REMOVED`, and a vendor's own.
#[test]
fn unclear_login_failure_counts_as_an_attempt() {
    for value in ["5", "6", "48", "50", "2147483656"] {
        let token = Token::kryoptic();
        token.break_with("fail-C_Login", value);
        for _ in 0..3 {
            let mut probe = Probe::of_token(&token);
            for _ in 0..3 {
                let error = probe.fails(sign());
                assert!(error.contains("psid retries it in "), "{error}");
                assert!(error.contains("preflight --retry"), "{error}");
            }
        }
        assert_eq!(token.calls("C_Login"), 1, "{value}");
        // Another PIN and a retry by command need not wait.
        token.repair("fail-C_Login");
        let mut setup = token.setup();
        setup["retry"] = true.into();
        assert_eq!(Probe::with_tokens(&token, &[setup]).ok(sign())["verifies"], true);
        assert_eq!(Probe::of_token(&token).ok(sign())["verifies"], true);
    }
}

/// The token reports that it counted the attempt: there is no second one.
#[test]
fn unclear_login_failure_with_a_low_pin_count_is_a_refusal() {
    let token = Token::kryoptic();
    // CKF_USER_PIN_COUNT_LOW, CKR_FUNCTION_FAILED
    token.break_with("flags", "65536");
    token.break_with("fail-C_Login", "6");
    for _ in 0..3 {
        let error = Probe::of_token(&token).fails(sign());
        assert!(error.starts_with("Pin: ") && error.contains("will not retry it"), "{error}");
    }
    assert_eq!(token.calls("C_Login"), 1);
}

/// `CKR_TOKEN_NOT_PRESENT`, `CKR_SESSION_HANDLE_INVALID`, `CKR_USER_ANOTHER_ALREADY_LOGGED_IN`: the PIN was not sent.
#[test]
fn login_that_does_not_reach_the_token_is_no_attempt() {
    for value in ["224", "179", "260"] {
        let token = Token::kryoptic();
        token.break_with("fail-C_Login", value);
        let mut probe = Probe::of_token(&token);
        let error = probe.fails(sign());
        assert!(!error.starts_with("Pin: "), "{error}");
        token.repair("fail-C_Login");
        assert_eq!(probe.ok(sign())["verifies"], true, "{value}");
    }
}

#[test]
fn malformed_pin_is_not_sent() {
    // SoftHSM reports the accepted lengths.
    let token = Token::softhsm();
    let mut probe = Probe::of_token(&token);
    for (pin, words) in [
        (b"\xef\xbb\xbf12345678".as_slice(), "byte order mark"),
        (b"\xff\xfe1\x002\x003\x004\x00", "UTF-16"),
        (b"12345678\x00", "NUL"),
        (b"\"12345678\"\n", "quotes"),
        (b"12345678\n87654321\n", "more than one line"),
        (b"12", "length that the token does not accept"),
        (&[b'1'; 300], "length that the token does not accept"),
    ] {
        fs::write(token.pin_file(), pin).unwrap();
        let error = probe.fails(sign());
        assert!(error.starts_with("Pin: the PIN in ") && error.contains(words), "{error}");
    }
    assert_eq!(token.calls("C_Login"), 0);
    token.give_pin(PIN);
    assert_eq!(probe.ok(sign())["verifies"], true);
}

#[test]
fn last_pin_attempt_is_never_used() {
    let token = Token::kryoptic();
    token.break_with("flags", FINAL_TRY);
    let mut probe = Probe::of_token(&token);
    let error = probe.fails(sign());
    assert!(error.contains("psid tries none; log in once with the right one"), "{error}");
    assert_eq!((token.calls("C_Login"), state(&mut probe).as_str()), (0, "pin refused"));
    let described = probe.ok(json!({ "do": "describe" }));
    assert!(described["token"].as_str().unwrap().contains("pin: FinalTry"), "{described}");
    token.repair("flags");
    assert_eq!(probe.ok(sign())["verifies"], true);
}

#[test]
fn locked_pin_is_reported_and_not_tried() {
    let token = Token::kryoptic();
    let expected =
        "Pin: the token's user PIN is locked (CKR_PIN_LOCKED); unlock it with the SO PIN";
    token.break_with("flags", LOCKED);
    let mut probe = Probe::of_token(&token);
    assert!(probe.fails(sign()).starts_with(expected));
    assert_eq!(token.calls("C_Login"), 0);
    token.repair("flags");
    // The token reports it only at the login.
    token.break_with("fail-C_Login", PIN_LOCKED);
    for _ in 0..3 {
        assert!(probe.fails(sign()).starts_with(expected));
    }
    assert_eq!(token.calls("C_Login"), 1);
    token.repair("fail-C_Login");
    let mut setup = token.setup();
    setup["retry"] = true.into();
    assert_eq!(Probe::with_tokens(&token, &[setup]).ok(sign())["verifies"], true);
    assert_eq!(probe.ok(sign())["verifies"], true);
}

#[test]
fn missing_pin_is_reported_and_found_later() {
    let token = Token::kryoptic();
    fs::remove_file(token.pin_file()).unwrap();
    let mut probe = Probe::of_token(&token);
    let expected = format!("Pin: the PIN is missing: no {}; ", token.pin_file().display());
    assert!(probe.fails(sign()).starts_with(&expected));
    assert_eq!(state(&mut probe), "pin refused");
    token.give_pin("\n");
    assert!(probe.fails(sign()).contains(" is empty; "));
    token.give_pin(&format!("{PIN}\n"));
    assert_eq!(probe.ok(sign())["verifies"], true);
    assert_eq!(token.calls("C_Login"), 1);
}

/// The Python PSI's #30: a second session in one process got CKR_USER_ALREADY_LOGGED_IN and turned
/// the cache off.
#[test]
fn second_login_of_one_process_succeeds() {
    for token in [Token::kryoptic(), Token::softhsm()] {
        let mut probe = Probe::with_tokens(&token, &[token.setup(), token.setup()]);
        let other = json!({ "do": "sign", "message": "", "token": 1 });
        assert_eq!(probe.ok(sign())["verifies"], true);
        assert_eq!(probe.ok(other.clone())["verifies"], true);
        assert_eq!(probe.ok(sign())["verifies"], true);
        // psid recovers from what the other client does to the module.
        token.pull_out();
        probe.fails(sign());
        token.put_back();
        assert_eq!(probe.ok(other)["verifies"], true);
        assert_eq!(probe.ok(sign())["verifies"], true);
    }
}

/// "Already logged in" is accepted only while the key can be used.
#[test]
fn false_login_success_is_detected_by_the_key() {
    let token = Token::kryoptic();
    token.break_with("fail-C_Login", ALREADY_LOGGED_IN);
    let mut probe = Probe::of_token(&token);
    let error = probe.fails(sign());
    assert!(!error.starts_with("Pin: "), "{error}");
    assert_ne!(state(&mut probe), "ready");
    token.repair("fail-C_Login");
    let unwrap = wrap(&mut probe);
    unwraps(&mut probe, &unwrap);
}
