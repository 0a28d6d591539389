//! A credential that is replaced while psid runs: the next login takes it, and half of a pair is no login.

use std::fs;

use serde_json::{Value, json};

use psi_harness::ca::{CLIENT, generate_ec_key};
use psi_harness::machine::{Machine, TLS_CERT};
use psi_harness::{Psid, Token, id, reference};

/// Longer than an access token lives.
const LIFE: u64 = 2_592_000 + 1;

fn secrets() -> Value {
    json!({"/myapp": {"A": "1", "B": "2", "C": "3", "D": "4"}})
}

/// A psid that has logged in and cached `A`.
fn started(machine: &Machine) -> Psid {
    let psid = machine.psid().start();
    machine.instance.driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    assert_eq!(machine.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    psid
}

fn value(machine: &Machine, key: &str) -> String {
    machine.instance.driver(&["get", &reference("/myapp", key)]).text()
}

/// The certificates that were sent, by the proxy's header.
fn sent(machine: &Machine) -> Vec<String> {
    let log = machine.infisical.log();
    let all = log.iter().map(|request| request.header("x-identity-tls-cert-auth-client-cert"));
    all.filter(|certificate| !certificate.is_empty()).map(str::to_owned).collect()
}

#[test]
fn key_that_is_replaced_on_the_token_signs_the_next_login() {
    for token in [Token::kryoptic(), Token::softhsm()] {
        let machine = Machine::on_token(token, &secrets());
        let psid = started(&machine);
        let token = machine.token.as_ref().unwrap();
        for kind in ["privkey", "pubkey"] {
            token.user_tool(&["--delete-object", "--type", kind, "--id", "03"]);
        }
        let make = ["--keypairgen", "--key-type", "rsa:2048", "--label", "login", "--id", "03"];
        token.user_tool(&[&make[..], &["--usage-sign"]].concat());
        machine.infisical.advance(LIFE);
        // The certificate is still the one of the key before.
        let line = machine.instance.driver(&["get", &reference("/myapp", "B")]).fails(75);
        assert!(line.contains("'login' on the token does not belong to the certificate"), "{line}");
        assert_eq!(machine.instance.driver(&["lookup"]).id(id(1)).text(), "1");
        machine.certify_token_key(CLIENT);
        assert_eq!(value(&machine, "B"), "2");
        assert_eq!(psid.degraded(), "");
        let sent = sent(&machine);
        assert!(sent.len() == 2 && sent[0] != sent[1], "{} logins", sent.len());
    }
}

/// An agent writes the key and the certificate one after the other, and not by rename.
#[test]
fn half_of_a_new_pair_is_one_line_and_costs_no_login() {
    let machine = Machine::of(TLS_CERT, &secrets());
    let psid = started(&machine);
    let (certificate, key) = (machine.certificate_file(), machine.key_file());
    generate_ec_key(&key);
    // The access token is valid: nobody needs the pair yet.
    assert_eq!(value(&machine, "B"), "2");
    assert_eq!(psid.degraded(), "");
    machine.infisical.advance(LIFE);
    let fails = |words: &str| {
        let line = machine.instance.driver(&["get", &reference("/myapp", "C")]).fails(75);
        assert!(line.contains(words), "{words}: {line}");
        let fix = format!("write the certificate to {}, readable", certificate.display());
        assert!(line.contains(&fix), "{line}");
        assert!(psid.degraded().contains(words), "{}", psid.degraded());
        assert_eq!(machine.instance.driver(&["lookup"]).id(id(1)).text(), "1");
    };
    fails(&format!("does not belong to the certificate in {}", certificate.display()));
    machine.ca.as_ref().unwrap().certify_key(&key, CLIENT, &certificate);
    let whole = [&certificate, &key].map(|path| fs::read_to_string(path).unwrap());
    fs::write(&certificate, &whole[0][..whole[0].len() / 2]).unwrap();
    fails("is not complete PEM");
    fs::write(&certificate, "").unwrap();
    fails("the file holds no PEM certificate");
    fs::write(&certificate, &whole[0]).unwrap();
    fs::write(&key, &whole[1][..whole[1].len() / 2]).unwrap();
    fails("holds no private key in PEM");
    assert_eq!(machine.logins(), 1);
    fs::write(&key, &whole[1]).unwrap();
    assert_eq!(value(&machine, "C"), "3");
    assert_eq!((machine.logins(), psid.degraded().as_str()), (2, ""));
}

/// The replaced certificate is used at the next login, and at once by an admin's command.
#[test]
fn login_command_takes_a_new_pair_at_once() {
    let machine = Machine::of(TLS_CERT, &secrets());
    let _psid = started(&machine);
    machine.give_credential();
    let outcome = machine.instance.driver(&["login"]).run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let sent = sent(&machine);
    assert!(sent.len() == 2 && sent[0] != sent[1], "{} logins", sent.len());
}
