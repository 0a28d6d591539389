//! A module whose calls hang: callers have a deadline, and the worker thread continues when the
//! call returns.

use serde_json::{Value, json};

use super::token::{unwraps, wrap};
use psi_harness::{Probe, Token, eventually};

fn within(mut request: Value, millis: u64) -> Value {
    request["within_ms"] = millis.into();
    request
}

fn sign() -> Value {
    json!({ "do": "sign", "message": "" })
}

#[track_caller]
fn is_stuck_in(call: &str, error: &str) {
    let expected = format!("Busy: the PKCS#11 module has not returned from {call} for ");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn hanging_call_ends_the_wait_and_keeps_the_thread() {
    let token = Token::kryoptic();
    let mut probe = Probe::of_token(&token);
    let unwrap = wrap(&mut probe);
    token.break_with("hang-C_Decrypt", "");
    is_stuck_in("C_Decrypt", &probe.fails(within(unwrap.clone(), 200)));
    // A caller with another request gets the same error.
    is_stuck_in("C_Decrypt", &probe.fails(within(sign(), 200)));
    let state = probe.ok(json!({ "do": "state" }));
    assert_eq!((&state["state"], &state["call"]), (&json!("busy"), &json!("C_Decrypt")));
    token.repair("hang-C_Decrypt");
    unwraps(&mut probe, &unwrap);
    assert_eq!(token.calls("C_SignInit"), 0, "who asked for it has gone");
    assert_eq!(probe.ok(sign())["verifies"], true);
    assert_eq!(token.calls("C_Login"), 1, "in the same session");
}

/// Opening a session takes 20 to 30 s on real tokens: longer than a lookup waits.
#[test]
fn session_opening_continues_for_the_next_caller() {
    for call in ["C_Initialize", "C_OpenSession", "C_Login"] {
        let token = Token::kryoptic();
        let mut probe = Probe::of_token(&token);
        token.break_with(&format!("hang-{call}"), "");
        is_stuck_in(call, &probe.fails(within(sign(), 500)));
        token.repair(&format!("hang-{call}"));
        assert_eq!(probe.ok(sign())["verifies"], true);
        assert_eq!(token.calls("C_Initialize"), 1, "{call}: what was begun was of use");
        assert_eq!(token.calls("C_OpenSession"), 1, "{call}");
        assert_eq!(token.calls("C_SignInit"), 1, "{call}: who had asked first has gone");
    }
}

#[test]
fn many_waiting_calls_are_served() {
    let token = Token::kryoptic();
    let mut probe = Probe::of_token(&token);
    let unwrap = wrap(&mut probe);
    token.break_with("hang-C_Decrypt", "");
    let waiting: Vec<_> = (0..20).map(|_| probe.begin(unwrap.clone())).collect();
    eventually("the first call", || (token.calls("C_Decrypt") > 0).then_some(()));
    token.repair("hang-C_Decrypt");
    for request in waiting {
        let answer = probe.answer_to(request);
        assert_eq!(answer["key"], psi_harness::hex(&super::token::KEY), "{answer}");
    }
}
