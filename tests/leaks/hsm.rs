//! Secrets that are sealed to a token, and its PIN.

use std::path::Path;

use super::canaries::{Canaries, canary};
use psi_harness::SealedFixture;
use psi_harness::{Outcome, Token, id};

/// The token's PIN is a canary too, and so is a wrong PIN, which may differ by one digit.
fn fixture() -> (SealedFixture, String, String) {
    let [pin, wrong] = ["pin", "wrong-pin"].map(canary);
    let token = Token::kryoptic();
    token.change_pin(&pin);
    token.give_pin(&pin);
    (SealedFixture::with(token), pin, wrong)
}

#[test]
fn no_value_or_pin_is_in_logs_arguments_messages_or_state() {
    let (fixture, pin, wrong) = fixture();
    let value = canary("value");
    let mut canaries = Canaries::default();
    for (name, secret) in [("the value", &value), ("the PIN", &pin), ("the wrong PIN", &wrong)] {
        canaries.add(name, secret.as_bytes());
    }
    let mut outputs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut call = |args: &[&str], stdin: &str| {
        let driver = fixture.driver(args).id(id(1)).stdin(stdin);
        let outcome = driver.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").run();
        let mut words = outcome.stderr.clone().into_bytes();
        if args[0] != "lookup" || outcome.code != 0 {
            words.extend(&outcome.stdout);
        }
        outputs.push((format!("the output of {args:?}"), words));
        outcome
    };
    let talkative = || {
        let psid = fixture.token.on(fixture.instance.psid()).args(&["--log-level", "debug"]);
        psid.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full")
    };

    let mut psid = talkative().start();
    let Outcome { code, stdout, .. } = call(&["hsm", "store", "boot"], &value);
    assert_eq!(code, 0);
    let reference = String::from_utf8(stdout).unwrap();
    let reference = reference.split('\'').nth(1).unwrap().to_owned();
    call(&["store"], &reference);
    assert_eq!(call(&["lookup"], "").stdout, value.as_bytes());
    for args in [
        &["hsm", "status"][..],
        &["hsm", "status", "--json"],
        &["hsm", "preflight"],
        &["hsm", "preflight", "--json"],
        &["cache", "status", "--json"],
        &["cache", "refresh"],
    ] {
        assert_eq!(call(args, "").code, 0, "{args:?}");
    }
    // Too large to be sealed.
    assert_eq!(call(&["hsm", "store", "boot"], &value.repeat(12_000)).code, 65);
    assert_eq!(canaries.shown_by(psid.process.pid()), None);

    // Failures of each kind.
    for (fault, how) in [("fail-C_Decrypt", "5"), ("fail-C_Login", "48"), ("absurd", "")] {
        fixture.token.break_with(fault, how);
        psid.reload();
        call(&["cache", "invalidate", &reference], "");
        call(&["lookup"], "");
        call(&["hsm", "store", "boot"], &value);
        call(&["hsm", "preflight"], "");
        fixture.token.repair(fault);
    }
    fixture.token.give_pin(&wrong);
    fixture.token.pull_out();
    call(&["hsm", "status"], "");
    fixture.token.put_back();
    call(&["lookup"], "");
    call(&["hsm", "status"], "");
    call(&["hsm", "preflight"], "");
    let log = psid.terminate();

    canaries.absent("psid's log", log.as_bytes());
    for (place, words) in &outputs {
        canaries.absent(place, words);
    }
    assert_eq!(canaries.below(fixture.instance.directory(), Path::new("")), None);
}
