//! `psictl seal NAME`.

use super::staged_host::{StagedHost, With, about};

#[test]
fn seal_writes_what_opens_whatever_the_umask() {
    let host = StagedHost::new();
    let sealed = host.run(&["sh", "-c", "umask 077; psictl seal hsm-pin"], "123456");
    assert_eq!(sealed.code, 0, "{}", sealed.stderr);
    let said = sealed.stdout_text();
    assert!(
        said.starts_with("sealed hsm-pin in /etc/psi/hsm-pin.cred to this host's TPM"),
        "{said}"
    );
    assert!(
        sealed.stderr.contains("no key of /etc/psi/config.toml that ends in _credential names it")
    );
    assert_eq!(about(&host, "/etc/psi/hsm-pin.cred"), "root:root 644");
    assert_eq!(
        host.sh("systemd-creds decrypt --name=hsm-pin /etc/psi/hsm-pin.cred - 2>/dev/null"),
        "123456"
    );
    assert_eq!(host.sh("ls -A /etc/psi"), "config.toml\nhsm-pin.cred");
}

#[test]
fn seal_refuses_names_and_an_empty_secret() {
    let host = StagedHost::new();
    for (name, sentence) in [
        ("../x", "'../x' cannot be the name of a credential; use letters, digits and ._-"),
        (
            "psi-cache-key",
            "psi-cache-key is the key of the cache; `psictl cache init` makes and seals it",
        ),
    ] {
        let outcome = host.run(&["psictl", "seal", name], "x");
        assert_eq!(outcome.code, 65);
        assert!(outcome.stderr.contains(sentence), "{}", outcome.stderr);
    }
    let outcome = host.run(&["psictl", "seal", "hsm-pin"], "");
    assert_eq!(
        (outcome.code, outcome.stderr.contains("stdin is empty")),
        (65, true),
        "{}",
        outcome.stderr
    );
    let outcome = host.run(&["psictl", "seal", "hsm-pin", "--user"], "x");
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.stderr.contains("`runuser -u USER -- psictl seal hsm-pin`"),
        "{}",
        outcome.stderr
    );
    assert_eq!(host.sh("ls -A /etc/psi"), "config.toml");
}

#[test]
fn seal_without_tpm_names_what_remains() {
    let host = StagedHost::with(With::NoTpm);
    let outcome = host.run(&["psictl", "seal", "hsm-pin"], "123456");
    assert_eq!(outcome.code, 74, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("(the firmware offers no TPM, the kernel has no TPM device"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome
            .stderr
            .contains("switch the TPM on in the firmware; without a TPM, `--seal-with host`"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.stderr.lines().count(), 1);
    let outcome = host.run(&["psictl", "seal", "hsm-pin", "--seal-with", "host"], "123456");
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout_text().contains("to this host's own key"));
}

#[test]
fn a_user_needs_a_newer_systemd() {
    let host = StagedHost::new();
    let outcome = host.run(
        &[
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "env",
            "HOME=/tmp",
            "psictl",
            "seal",
            "x",
        ],
        "secret",
    );
    assert_eq!(outcome.code, 65, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("seals credentials for root alone, 256 and newer also for users"),
        "{}",
        outcome.stderr
    );
}
