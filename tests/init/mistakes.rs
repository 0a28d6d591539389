//! The mistakes of a new user, and the sentence that answers each.

use psi_harness::CLIENT_SECRET;

use super::staged_host::{StagedHost, With, about};

/// The flags with one value replaced.
fn with(host: &StagedHost, flag: &str, value: &str) -> Vec<String> {
    let mut flags = host.flags();
    let at = flags.iter().position(|known| known == flag).unwrap();
    flags[at + 1] = value.to_owned();
    flags
}

#[test]
fn wrong_client_secret_is_to_be_corrected_and_nothing_is_written() {
    let host = StagedHost::new();
    let before = host.files();
    let wrong = host.file("wrong", "not-the-secret");
    let flags = with(&host, "--client-secret-file", wrong.to_str().unwrap());
    let (report, error) = host.init_ends(65, &flags, &[]);
    assert!(error.starts_with("psictl: init: step 1 of 10: "), "{error}");
    assert!(report.ends_with("\nnothing was changed\n"), "{report}");
    assert!(!error.contains("not-the-secret") && !report.contains("not-the-secret"));
    assert_eq!((host.files(), host.logins()), (before, 1));
    host.init_ends(0, &host.flags(), &[]);
}

#[test]
fn wrong_project_is_to_be_corrected_and_nothing_is_written() {
    let host = StagedHost::new();
    let before = host.files();
    let (_, error) =
        host.init_ends(65, &with(&host, "--project", "myproject=my-project:prod"), &[]);
    assert!(error.contains("'my-project' is no project id"), "{error}");
    let unknown = "myproject=00000000-0000-4000-8000-00000000ffff:prod";
    let (_, error) = host.init_ends(65, &with(&host, "--project", unknown), &[]);
    assert!(error.starts_with("psictl: init: step 1 of 10: "), "{error}");
    let (_, error) = host.init_ends(65, &with(&host, "--workload", "my app=myproject:/myapp"), &[]);
    assert!(error.contains("the workload 'my app'"), "{error}");
    let (_, error) =
        host.init_ends(65, &with(&host, "--workload", "myapp.service=myproject:/myapp"), &[]);
    assert!(error.contains("'myapp.service' has a unit's type; give 'myapp'"), "{error}");
    assert_eq!(host.files(), before);
}

#[test]
fn typo_in_the_config_is_named_with_its_line() {
    let host = StagedHost::new();
    host.sh("printf '[cache]\\nbakend = \"tpm\"\\n' >/etc/psi/config.toml");
    let outcome = host.run(&["psictl", "init", "--yes", "--no-recovery-key"], "");
    assert_eq!(outcome.code, 65, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("/etc/psi/config.toml:2: "), "{}", outcome.stderr);
    // Flags do not overwrite it.
    let (_, error) = host.init_ends(65, &host.flags(), &[]);
    assert!(error.contains("/etc/psi/config.toml is there and differs from the flags"), "{error}");
    assert!(error.contains("`mv /etc/psi/config.toml /etc/psi/config.toml.old`"), "{error}");
}

#[test]
fn no_tpm_is_found_before_anything_is_asked_of_infisical() {
    let host = StagedHost::with(With::NoTpm);
    let before = host.files();
    let (_, error) = host.init_ends(65, &host.flags(), &[]);
    assert!(
        error.contains("switch the TPM on in the firmware; without a TPM, `--seal-with host`"),
        "{error}"
    );
    assert_eq!((host.files(), host.logins()), (before, 0));
    host.init_ends(0, &host.flags(), &["--seal-with", "host"]);
}

#[test]
fn ordinary_user_is_told_to_be_root() {
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
            "init",
            "--yes",
        ],
        "",
    );
    assert_eq!(outcome.code, 65, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("run it as root for the system's podman"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn psid_that_a_lookup_woke_is_no_obstacle() {
    let host = StagedHost::new();
    host.sh("systemctl enable --now psid.socket psid-creds.socket && psi-driver list");
    assert_eq!(host.run(&["systemctl", "is-active", "psid.service"], "").code, 0);
    let (report, _) = host.init_ends(0, &host.flags(), &[]);
    assert!(report.contains("psid was stopped for it, its socket was not"), "{report}");
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken");
}

#[test]
fn umask_077_is_no_obstacle() {
    let host = StagedHost::new();
    let mut flags =
        vec!["sh".to_owned(), "-c".into(), "umask 077; exec \"$@\"".into(), "sh".into()];
    flags.extend(host.flags());
    host.init_ends(0, &flags, &[]);
    assert_eq!(about(&host, "/etc/psi/config.toml"), "root:psi 640");
    assert_eq!(about(&host, "/etc/psi/infisical-client-secret.cred"), "root:root 644");
    assert_eq!(about(&host, "/etc/containers/containers.conf.d"), "root:root 755");
}

#[test]
fn store_before_init_names_init() {
    let host = StagedHost::new();
    host.sh("psictl install && systemctl enable --now psid.socket psid-creds.socket");
    let outcome = host.run(&["podman", "secret", "create", "early", "-"], "a literal");
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("psictl init"), "{}", outcome.stderr);
    host.init_ends(0, &host.flags(), &[]);
    assert_eq!(host.run(&["podman", "secret", "create", "early", "-"], "a literal").code, 0);
}

#[test]
fn provider_that_is_down_is_for_later() {
    let mut host = StagedHost::new();
    let before = host.files();
    host.infisical.kill();
    let (_, error) = host.init_ends(75, &host.flags(), &[]);
    assert!(
        error.ends_with("nothing was written: run `psictl init` again when it answers"),
        "{error}"
    );
    assert_eq!(host.files(), before);
}

#[test]
fn full_disk_is_named_and_leaves_the_old_config() {
    let host = StagedHost::new();
    host.sh("cp -a /etc/psi /root/psi-etc && mount -t tmpfs -o size=16k,mode=1770,gid=$(id -g psi) tmpfs /etc/psi && \
             cp -a /root/psi-etc/config.toml /etc/psi/; rm -r /root/psi-etc; \
             head -c 100000 /dev/zero >/etc/psi/ballast 2>/dev/null || true");
    let (_, error) = host.init_ends(74, &host.flags(), &[]);
    assert!(
        error.contains("No space left on device") && error.contains("free space there"),
        "{error}"
    );
    assert!(!host.sh("ls -A /etc/psi").contains("cred"));
    host.sh("rm /etc/psi/ballast; mount -o remount,size=10m /etc/psi");
    host.init_ends(0, &host.flags(), &[]);
}

#[test]
fn no_terminal_and_no_yes_is_a_usage_error() {
    let host = StagedHost::new();
    let outcome = host.run(&["psictl", "init"], "");
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.stderr.contains("there is no terminal to ask at; add --yes"),
        "{}",
        outcome.stderr
    );
    let outcome = host.run(&["psictl", "init", "--yes"], CLIENT_SECRET);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("--client-id, --project are missing"), "{}", outcome.stderr);
}
