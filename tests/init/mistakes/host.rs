//! Files that are there already.

use super::super::staged_host::{StagedHost, about};
use super::assert_answer;

const INIT: [&str; 4] = ["psictl", "init", "--yes", "--no-recovery-key"];

#[test]
fn typo_in_the_config_is_named_with_its_line() {
    let host = StagedHost::new();
    host.sh("printf '[cache]\\nbakend = \"tpm\"\\n' >/etc/psi/config.toml");
    let outcome = host.run(&INIT, "");
    assert_eq!(outcome.code, 65, "{}", outcome.stderr);
    assert_answer(&host, "typo in the config", &outcome.stderr);
    // Flags do not overwrite it.
    let before = host.files();
    let (_, error) = host.init_ends(65, &host.flags(), &[]);
    assert_answer(&host, "flags that differ from the config", &error);
    assert_eq!(host.files(), before);
}

#[test]
fn config_that_psid_cannot_read_is_found_as_its_user() {
    let host = StagedHost::new();
    host.init_ends(0, &host.flags(), &[]);
    host.sh("systemctl stop psid.service && chown root:root /etc/psi/config.toml && chmod 0600 /etc/psi/config.toml");
    let outcome = host.run(&INIT, "");
    assert_eq!(outcome.code, 65, "{}{}", outcome.stdout_text(), outcome.stderr);
    assert_answer(&host, "config that root alone can read", &outcome.stderr);
    assert_eq!(about(&host, "/etc/psi/config.toml"), "root:root 600", "an admin's file");
}

#[test]
fn credential_that_does_not_open_is_to_be_sealed_again() {
    let host = StagedHost::new();
    host.init_ends(0, &host.flags(), &[]);
    host.sh("systemctl stop psid.service && echo of another host >/etc/psi/infisical-client-secret.cred");
    let outcome = host.run(&INIT, "");
    assert_answer(&host, "credential of another host", &outcome.stderr);
    assert_eq!(outcome.code, 65, "{}", outcome.stderr);
    // The flag gives it again.
    host.init_ends(0, &host.flags(), &[]);
}
