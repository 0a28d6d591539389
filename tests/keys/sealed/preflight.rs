//! `psictl hsm preflight`: every step, passed and failed, without a daemon.

use std::fs;
use std::os::unix::net::UnixListener;

use serde_json::Value;

use psi_harness::SealedFixture;
use psi_harness::{Config, Outcome, PIN, Token, one_line};

const STEPS: [&str; 8] =
    ["config", "module", "socket", "token", "pin", "key", "mechanisms", "round-trip"];
/// `CKF_USER_PIN_FINAL_TRY`, `CKF_USER_PIN_LOCKED`
const FINAL_TRY: &str = "131072";
const LOCKED: &str = "262144";
const OPENSC: &str = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so";

/// The steps: name, result and message.
fn steps(outcome: &Outcome) -> Vec<(String, String, String)> {
    let text = String::from_utf8(outcome.stdout.clone()).unwrap();
    let step = |line: &str| {
        let (result, rest) = line.split_once(' ').unwrap();
        let (name, words) = rest.trim_start().split_once(' ').unwrap();
        (name.to_owned(), result.to_owned(), words.trim_start().to_owned())
    };
    text.lines().map(step).collect()
}

/// Asserts that the check stops at `step` with this exit status and message, in text and in JSON.
#[track_caller]
fn fails_at(fixture: &SealedFixture, step: &str, code: i32, words: &str) {
    let outcome =
        fixture.driver(&["hsm", "preflight"]).env("PCSCLITE_CSOCK_NAME", "/nonexistent").run();
    let found = steps(&outcome);
    assert_eq!(outcome.code, code, "{found:?}");
    assert_eq!(found.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), STEPS);
    let at = STEPS.iter().position(|name| *name == step).unwrap();
    for (name, result, _) in &found[..at] {
        assert!(result == "ok" || (name == "socket" && result == "skipped"), "{found:?}");
    }
    for (_, result, detail) in &found[at + 1..] {
        assert_eq!((result.as_str(), detail.as_str()), ("skipped", "not reached"), "{found:?}");
    }
    let (_, result, detail) = &found[at];
    assert_eq!(result, "FAILED", "{found:?}");
    assert!(detail.contains(words) && detail.contains("; "), "{detail}");
    // The one line on stderr is that of the step.
    assert_eq!(one_line(&outcome.stderr), format!("psid: preflight: {step}: {detail}"));

    let outcome = fixture
        .driver(&["hsm", "preflight", "--json"])
        .env("PCSCLITE_CSOCK_NAME", "/nonexistent")
        .run();
    assert_eq!(outcome.code, code);
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let last = &report["steps"][at];
    assert_eq!((last["step"].as_str(), last["result"].as_str()), (Some(step), Some("failed")));
    let (what, remedy) = (last["detail"].as_str().unwrap(), last["remedy"].as_str().unwrap());
    assert_eq!(format!("{what}; {remedy}"), *detail);
}

/// The same with another line in the config.
#[track_caller]
fn fails_with(fixture: &SealedFixture, from: &str, to: &str, step: &str, code: i32, words: &str) {
    let lines = fixture.token.config();
    assert!(lines.contains(from), "{lines}");
    fixture.instance.configure(&Config { rest: lines.replace(from, to), ..fixture.config() });
    fails_at(fixture, step, code, words);
    fixture.instance.configure(&fixture.config());
}

#[test]
fn preflight_reports_each_passed_step() {
    let fixture = SealedFixture::with_kryoptic();
    // No psid runs, and no file remains.
    let text = fixture.driver(&["hsm", "preflight"]).text();
    for line in [
        "ok       config      ",
        "ok       module      ",
        "skipped  socket      not needed: the module does without pcscd\n",
        "ok       token       'psi' in slot 1: Kryoptic Project ",
        "ok       pin         the token accepts the PIN in ",
        "ok       key         'podman-secrets', id 02: RSA of 2048 bits; it may decrypt and sign\n",
        "ok       mechanisms  RSA-OAEP with SHA-256 and CKM_SHA256_RSA_PKCS\n",
        "ok       round-trip  a key wrapped here was unwrapped by the token, and its signature verified\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(fixture.token.calls("C_Login"), 1);
    assert!(!fixture.instance.state().exists());

    let report = fixture.driver(&["hsm", "preflight", "--json"]).json();
    assert_eq!(report["ok"], true);
    let steps: Vec<_> =
        report["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    assert_eq!(steps, STEPS);
    // It does not disturb a running psid that uses the token.
    let _psid = fixture.start();
    fixture.seal("secret");
    fixture.driver(&["hsm", "preflight"]).ok();
    fixture.seal("secret");
}

#[test]
fn preflight_reports_an_unusable_config() {
    let fixture = SealedFixture::with_kryoptic();
    fixture.instance.configure(&Config { rest: String::new(), ..fixture.config() });
    fails_at(&fixture, "config", 65, "has no [providers.pkcs11]");
    fixture.instance.configure(&Config { rest: "[providers.pkcs11]\n".into(), ..fixture.config() });
    fails_at(&fixture, "config", 65, "config.toml:3: ");
    fs::remove_file(fixture.instance.config()).unwrap();
    fails_at(&fixture, "config", 65, "config.toml: No such file or directory");
}

#[test]
fn preflight_reports_a_missing_or_wrong_module() {
    let fixture = SealedFixture::with_kryoptic();
    let module = fixture.token.config();
    let module = module.split('"').nth(1).unwrap();
    fails_with(&fixture, module, "/nonexistent.so", "module", 65, "/nonexistent.so: No such file");
    fails_with(&fixture, module, "/etc/passwd", "module", 65, "/etc/passwd cannot be loaded: ");
    // A library that is no PKCS#11 module.
    let library = "/usr/lib/x86_64-linux-gnu/libz.so.1";
    fails_with(&fixture, module, library, "module", 65, "libz.so.1 cannot be loaded: ");
}

/// OpenSC's module needs pcscd, and finds no token without a reader.
#[test]
fn preflight_checks_pcscd_if_the_module_needs_it() {
    let fixture = SealedFixture::with_kryoptic();
    let module = fixture.token.config();
    let module = module.split('"').nth(1).unwrap();
    fails_with(
        &fixture,
        module,
        OPENSC,
        "socket",
        69,
        "pcscd does not listen at /nonexistent: No such file",
    );

    let socket = fixture.instance.run().join("pcscd.comm");
    let listener = UnixListener::bind(&socket).unwrap();
    // A pcscd that closes each connection.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let lines = fixture.token.config().replace(module, OPENSC);
    fixture.instance.configure(&Config { rest: lines, ..fixture.config() });
    let outcome = fixture.driver(&["hsm", "preflight"]).env("PCSCLITE_CSOCK_NAME", &socket).run();
    let found = steps(&outcome);
    assert_eq!(outcome.code, 69, "{found:?}");
    let result = |at: usize| (found[at].0.as_str(), found[at].1.as_str());
    assert_eq!((result(2), result(3)), (("socket", "ok"), ("token", "FAILED")), "{found:?}");
    assert!(found[3].2.contains("no token has the label 'psi': there is no token"), "{found:?}");
}

#[test]
fn preflight_reports_an_absent_or_other_token() {
    let fixture = SealedFixture::with_kryoptic();
    fails_with(
        &fixture,
        "\"psi\"",
        "\"other\"",
        "token",
        69,
        "no token has the label 'other': there is 'psi' in slot 1",
    );
    fails_with(&fixture, "token_label = \"psi\"", "slot = 7", "token", 69, "no token is in slot 7");
    fixture.token.pull_out();
    fails_at(&fixture, "token", 69, "no token has the label 'psi': there is no token");
}

#[test]
fn preflight_reports_a_missing_wrong_or_risky_pin() {
    let fixture = SealedFixture::with_kryoptic();
    fs::remove_file(fixture.token.pin_file()).unwrap();
    fails_at(&fixture, "pin", 65, "the PIN is missing: no /");
    fixture.token.give_pin("\n");
    fails_at(&fixture, "pin", 65, "is empty");
    assert_eq!(fixture.token.calls("C_Login"), 0);

    fixture.token.give_pin("00000000");
    // In text and in JSON: two processes, one attempt.
    fails_at(&fixture, "pin", 65, "the token refused the PIN in ");
    assert_eq!(fixture.token.calls("C_Login"), 1);
    let outcome = fixture.driver(&["hsm", "preflight", "--retry"]).run();
    assert_eq!((outcome.code, fixture.token.calls("C_Login")), (65, 2));

    fixture.token.give_pin(PIN);
    for (flags, words) in [
        (FINAL_TRY, "the next wrong PIN would lock the token, so psid tries none"),
        (LOCKED, "the token's user PIN is locked"),
    ] {
        fixture.token.break_with("flags", flags);
        fails_at(&fixture, "pin", 65, words);
    }
    assert_eq!(fixture.token.calls("C_Login"), 2, "even the right PIN is not tried");
    fixture.token.repair("flags");
    fixture.driver(&["hsm", "preflight"]).ok();
}

#[test]
fn preflight_reports_a_missing_or_restricted_key() {
    let fixture = SealedFixture::with(Token::without_key());
    fails_at(
        &fixture,
        "key",
        65,
        "no private key with the label 'podman-secrets': it has no RSA key",
    );
    fixture.token.generate_key("verifier", "03", &["--usage-sign"]);
    fails_at(&fixture, "key", 65, "its RSA keys are 'verifier'");
    fails_with(
        &fixture,
        "podman-secrets",
        "verifier",
        "key",
        65,
        "id 03: RSA of 2048 bits; it may not decrypt (CKA_DECRYPT)",
    );

    // A key that opens secrets need not sign; a key for the cache must.
    fixture.token.generate_key("podman-secrets", "02", &["--usage-decrypt"]);
    let text = fixture.driver(&["hsm", "preflight"]).text();
    assert!(
        text.contains("it may decrypt; it may not sign, which only backend = \"hsm\" would need\n"),
        "{text}"
    );
    assert!(text.contains("unwrapped by the token; nothing was signed\n"), "{text}");
    fixture.instance.configure(&Config { cache: "backend = \"hsm\"\n".into(), ..fixture.config() });
    fails_at(&fixture, "key", 65, "it may not sign (CKA_SIGN), which backend = \"hsm\" needs");
}

/// The list of mechanisms does not include hashes, so the check tries one.
#[test]
fn preflight_reports_softhsm_without_oaep_sha_256() {
    let fixture = SealedFixture::with(Token::softhsm());
    let words = "the token does not decrypt RSA-OAEP with SHA-256, which psi wraps with: it does RSA-OAEP with SHA-1 only; use ";
    fails_at(&fixture, "mechanisms", 65, words);
}

/// The token lists the mechanism, and its call fails.
#[test]
fn preflight_round_trip_detects_a_token_that_cannot_unwrap() {
    let fixture = SealedFixture::with_kryoptic();
    // CKR_DEVICE_ERROR
    fixture.token.break_with("fail-C_Decrypt", "48");
    fails_at(&fixture, "round-trip", 65, "the token cannot decrypt the data: CKR_DEVICE_ERROR");
    fixture.token.repair("fail-C_Decrypt");
    fixture.token.break_with("fail-C_Sign", "48");
    fails_at(&fixture, "round-trip", 69, "the token failed at C_Sign: CKR_DEVICE_ERROR");
}
