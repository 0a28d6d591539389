//! psid with a token that is slow, absent, locked or back again: it serves what it can, reports the
//! reason, and needs no restart.

use std::fs;

use super::{filled, on, one};
use psi_harness::{PIN, Token, eventually, id};

#[test]
fn reboot_in_an_outage_serves_everything() {
    let (mut infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    infisical.kill();
    let before = (token.calls("C_Login"), token.calls("C_Decrypt"));
    let psid = token.on(instance.psid()).start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    assert_eq!(psid.status()["survives_outage"], true);
    // One login and one unwrap; the second C_Decrypt queries a length.
    assert_eq!((token.calls("C_Login"), token.calls("C_Decrypt")), (before.0 + 1, before.1 + 2));
    let finalized = token.calls("C_Finalize");
    psid.terminate();
    assert_eq!(token.calls("C_Finalize"), finalized + 1, "logged out");
}

#[test]
fn missing_token_means_live_serving_until_it_returns() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    let cache = fs::read(instance.cache()).unwrap();
    token.pull_out();
    let mut psid = token.on(instance.psid()).start();
    let degraded = psid.degraded();
    assert!(degraded.contains("no token has the label 'psi': there is no token"), "{degraded}");
    assert!(degraded.contains("plug the token in"), "{degraded}");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "live");
    let line = instance.driver(&["lookup"]).id(id(2)).fails(65);
    assert!(line.contains("no key to open it"), "{line}");
    assert_eq!(fs::read(instance.cache()).unwrap(), cache);
    token.put_back();
    psid.reload();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

/// The key is in RAM: psid does not need the token after the start.
#[test]
fn token_removed_after_start_is_not_needed() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    let psid = token.on(instance.psid()).start();
    token.pull_out();
    instance.driver(&["store"]).id(id(3)).stdin("another").ok();
    assert_eq!(instance.driver(&["lookup"]).id(id(3)).text(), "another");
    assert_eq!(psid.degraded(), "");
}

#[test]
fn psid_tries_a_wrong_pin_once_for_all_commands() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    token.give_pin("11111111");
    let before = token.calls("C_Login");
    let mut psid = token.on(instance.psid()).start();
    let degraded = psid.degraded();
    assert!(degraded.contains("the token refused the PIN in "), "{degraded}");
    assert!(degraded.contains("psid will not retry it; store the right PIN there"), "{degraded}");
    for _ in 0..3 {
        instance.driver(&["lookup"]).id(id(2)).fails(65);
    }
    assert_eq!(token.calls("C_Login"), before + 1);
    token.give_pin(PIN);
    psid.reload();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    let log = psid.terminate();
    assert!(!log.contains("11111111") && !log.contains(PIN), "{log}");
}

#[test]
fn pin_is_read_from_a_credential() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    fs::remove_file(token.pin_file()).unwrap();
    let config = fs::read_to_string(instance.config()).unwrap();
    let file = format!("pin_file = \"{}\"", token.pin_file().display());
    fs::write(instance.config(), config.replace(&file, "pin_credential = \"hsm-pin\"")).unwrap();
    let mut psid = token.on(instance.psid()).start();
    let degraded = psid.degraded();
    let sealed = instance.config().with_file_name("hsm-pin.cred").display().to_string();
    let expected = format!("the PIN is missing: no credential hsm-pin, no {sealed}; ");
    assert!(degraded.contains(&expected), "{degraded}");
    assert!(degraded.contains("`psictl seal hsm-pin`"), "{degraded}");
    fs::write(instance.credentials().join("hsm-pin"), PIN).unwrap();
    psid.reload();
    assert_eq!(psid.degraded(), "");
}

/// Opening the key takes half a minute on real tokens: lookups are served meanwhile.
#[test]
fn slow_token_delays_no_live_lookup() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    token.break_with("hang-C_Initialize", "");
    let mut psid = token.on(instance.psid()).launch();
    eventually("psid to serve", || (instance.driver(&["health"]).run().code == 0).then_some(()));
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1", "live");
    token.repair("hang-C_Initialize");
    psid.await_notification("READY=1");
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
}

#[test]
fn psid_stops_while_the_token_hangs() {
    let (infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    token.break_with("hang-C_Login", "");
    let logins = token.calls("C_Login");
    let psid = token.on(instance.psid()).launch();
    eventually("the login", || (token.calls("C_Login") > logins).then_some(()));
    psid.terminate();
}

#[test]
fn killed_psid_does_not_block_its_successor() {
    let (mut infisical, token) = (one(), Token::kryoptic());
    let instance = filled(&infisical, &token);
    token.on(instance.psid()).start().crash();
    infisical.kill();
    let psid = token.on(instance.psid()).start();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(2)).text(), "a literal");
    // Other programs can use the token at the same time.
    assert!(on(&token, instance.driver(&["cache", "status"])).report().contains("hsm"));
    token.user_tool(&["--list-objects"]);
}
