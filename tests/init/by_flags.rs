//! Everything by flags and files, as from Ansible.

use std::collections::BTreeSet;

use serde_json::Value;

use psi_harness::{CLIENT_SECRET, PIN, Token, assert_in_order};

use super::staged_host::{StagedHost, about};

#[test]
fn init_leads_from_the_package_to_a_served_secret() {
    let host = StagedHost::new();
    let (report, error) = host.init_ends(0, &host.flags(), &[]);
    assert_eq!(error, "");
    assert_in_order(
        &report,
        &[
            "[1/10] log in to ",
            "  $ psid check --online\n",
            "[2/10] seal the client secret to this host's TPM",
            "  $ psictl seal infisical-client-secret\n",
            "[3/10] write /etc/psi/config.toml, mode 0640\n",
            "  $ install -m 0640 -o root -g psi config.toml /etc/psi/config.toml\n",
            "[4/10] check as user psi that psid can read the config and open its credentials\n",
            "[5/10] create the key of the cache, seal it to this host's TPM (PCRs 7)",
            "  $ psictl cache init --backend tpm\n",
            "[6/10] start psid, now and at each boot\n",
            "  $ systemctl enable --now psid.socket psid-creds.socket psid.service\n",
            "[7/10] make psi podman's driver for new secrets\n",
            "  $ psictl install\n",
            "[8/10] prove it: podman creates a secret through psi",
            "  ok: podman creates new secrets with psi: one was created, looked up and removed\n",
            "[9/10] fetch the secrets into the cache\n",
            "  $ psictl cache refresh\n",
            "[10/10] register the secrets of myapp in podman\n",
            "  $ psictl setup\n",
            "\ndaemon     psid ",
            "key        bound to tpm2",
            "\nnext:\n  $ ",
        ],
    );
    assert_eq!(about(&host, "/etc/psi/config.toml"), "root:psi 640");
    assert_eq!(about(&host, "/etc/psi/infisical-client-secret.cred"), "root:root 644");
    let listed = host.sh("podman secret ls --format '{{.Name}} {{.Driver}}' | sort");
    assert_eq!(listed, "myapp--DB_HOST shell\nmyapp--TOKEN shell");
    assert_eq!(host.sh("psi-driver get myapp--DB_HOST"), "db.internal");
    let found = host.sh(&format!(
        "grep -rl -e {CLIENT_SECRET} /etc/psi /var/lib/psi /run/psi /run/psid /run/stage || true"
    ));
    assert_eq!(found, "", "the client secret in clear");
}

#[test]
fn second_run_skips_what_is_right() {
    let host = StagedHost::new();
    host.init_ends(0, &host.flags(), &[]);
    let (files, logins) = (host.files(), host.logins());
    let (report, _) = host.init_ends(0, &host.flags(), &[]);
    for title in [
        "log in to",
        "seal the client secret",
        "write /etc/psi",
        "create the key",
        "start psid",
        "make psi",
    ] {
        let step = report.split("\n[").find(|step| step.contains(title)).unwrap();
        assert!(step.contains("done already: "), "{step}");
    }
    assert_eq!((host.files(), host.logins()), (files, logins));
    // And without any flag but --yes: the config that is there counts.
    let outcome = host.run(&["psictl", "init", "--yes", "--json"], "");
    let report: Value = serde_json::from_str(&outcome.stdout_text()).unwrap();
    assert_eq!((outcome.code, &report["changed"]), (0, &Value::Bool(false)), "{report:#}");
}

#[test]
fn start_flag_starts_the_unit_of_a_quadlet() {
    let host = StagedHost::new();
    host.sh("mkdir -p /etc/containers/systemd
             printf '[Container]\\nImage=x\\n' >/etc/containers/systemd/myapp.container");
    let (report, _) = host.init_ends(0, &host.flags(), &[]);
    assert!(report.contains("\nnext:\n  $ systemctl restart myapp\n"), "{report}");
    assert!(!host.sh("cat /run/stage/systemctl.log").contains("restart myapp"));
    let (report, _) = host.init_ends(0, &host.flags(), &["--start"]);
    assert_in_order(
        &report,
        &[
            "[11/11] start myapp\n  $ systemctl restart myapp\n  ok: myapp runs\n",
            "\nnext:\n  $ systemctl status myapp\n",
        ],
    );
    let (report, _) = host.init_ends(0, &host.flags(), &["--start"]);
    assert_in_order(&report, &["[11/11] start myapp\n", "  done already: started since "]);
}

#[test]
fn dry_run_changes_nothing() {
    let host = StagedHost::new();
    // The host's key, which the first `--with-key=host` creates, is not there either.
    host.sh("rm -f /var/lib/systemd/credential.secret");
    let flags = host.flags();
    let before = tree(&host);
    let (report, _) = host.init_ends(0, &flags, &["--dry-run"]);
    host.init_ends(0, &flags, &["--dry-run", "--seal-with", "host"]);
    host.init_ends(0, &flags, &["--dry-run", "--json"]);
    let tree = tree(&host);
    assert!(tree == before, "{}", difference(&before, &tree));
    assert_in_order(
        &report,
        &[
            "[1/10] log in",
            "[3/10] write",
            "      client_id = \"client\"\n",
            "[10/10] register",
            "nothing was changed (--dry-run)",
        ],
    );
    assert_eq!(host.logins(), 0);
    assert_eq!(host.run(&["systemctl", "is-active", "psid.service"], "").code, 3);
}

/// Every file of the host with its owner, mode, size and time, but those of podman, of systemd-creds and of the stand-in
/// for systemd.
fn tree(host: &StagedHost) -> String {
    let others = [
        "/etc/cni",
        "/root/*/*",
        "/run/containers",
        "/run/libpod",
        "/run/podman-tmp",
        "/run/runc",
        "/run/stage",
        "/run/systemd/tpm-rng-credited",
        "/tmp/*",
        "/var/lib/containers",
    ];
    let others = others.map(|path| format!("-path '{path}'")).join(" -o ");
    host.sh(&format!(
        "find /etc /run /var/lib /usr/bin /root /tmp \\( {others} \\) -prune -o -type d -printf '%p %m %u:%g\\n' \
         -o -printf '%p %y %m %u:%g %s %T@\\n' | sort"
    ))
}

fn difference(before: &str, after: &str) -> String {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (before, after) = (lines(before), lines(after));
    format!("{:#?}", before.symmetric_difference(&after).collect::<Vec<_>>())
}

#[test]
fn failed_run_names_what_undoes_it_and_the_next_one_goes_on() {
    let host = StagedHost::new();
    host.sh("touch /run/stage/refuse");
    let (report, error) = host.init_ends(69, &host.flags(), &[]);
    assert!(error.starts_with("psictl: init: step 6 of 10: starting psid: "), "{error}");
    assert!(error.ends_with("; see `journalctl -u psid -n 20`"), "{error}");
    assert_in_order(
        &report,
        &[
            "`psictl init` goes on from here. What was done is undone by:\n",
            "  $ rm /etc/psi/cache.key /var/lib/psi/cache.enc /var/lib/psi/recovery.enc\n",
            "  $ cp /usr/share/psi/psi.toml /etc/psi/config.toml\n",
            "  $ rm /etc/psi/infisical-client-secret.cred\n",
        ],
    );
    let files = host.files();
    host.sh("rm /run/stage/refuse");
    let (report, _) = host.init_ends(0, &host.flags(), &[]);
    assert_eq!(report.matches("done already: ").count(), 3, "seal, config and key: {report}");
    assert!(host.files().contains(&files), "{files}\n{}", host.files());
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken");
}

#[test]
fn recovery_key_goes_to_a_new_file() {
    let host = StagedHost::new();
    let flags: Vec<String> =
        host.flags().into_iter().filter(|flag| flag != "--no-recovery-key").collect();
    let (_, error) = host.init_ends(2, &flags, &[]);
    assert!(error.contains("add --recovery-key-file FILE, or --no-recovery-key"), "{error}");
    assert_eq!(host.logins(), 0, "nothing is done before");
    let (report, _) = host.init_ends(0, &flags, &["--recovery-key-file", "/root/recovery-key"]);
    let key = host.sh("cat /root/recovery-key");
    host.sh("rm /root/recovery-key");
    assert_eq!((key.len(), key.matches('-').count()), (71, 7), "{key}");
    assert!(report.contains("the recovery key is in /root/recovery-key") && !report.contains(&key));
}

#[test]
fn json_reports_each_step() {
    let host = StagedHost::new();
    let (report, _) = host.init_ends(0, &host.flags(), &["--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let steps: Vec<&str> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        steps,
        [
            "login", "seal", "config", "open", "key", "start", "install", "prove", "refresh",
            "register"
        ]
    );
    assert!(report["steps"].as_array().unwrap().iter().all(|step| step["state"] == "done"));
    assert_eq!(report["changed"], true);
}

#[test]
fn host_seal_is_written_to_the_config() {
    let host = StagedHost::new();
    host.init_ends(0, &host.flags(), &["--seal-with", "host"]);
    let config = host.sh("cat /etc/psi/config.toml");
    assert!(config.contains("seal_with = \"host\"\n"), "{config}");
    assert!(host.sh("psictl status").contains("key        bound to this host's own key\n"));
    let (report, _) = host.init_ends(0, &host.flags(), &["--seal-with", "host"]);
    assert_eq!(report.matches("done already: ").count(), 8, "{report}");
}

/// A token whose files user psi may use.
pub(crate) fn token_of_psi(host: &StagedHost) -> (Token, String) {
    let token = Token::kryoptic();
    let environment = token.environment();
    let mut lines = String::new();
    for (name, value) in &environment {
        lines += &format!("{name}={}\n", value.to_str().unwrap());
    }
    let file = host.file("environment", &lines);
    host.sh(&format!(
        "cp {} /run/stage/environment; chown -R psi:psi {}",
        file.display(),
        token.directory().display()
    ));
    let exports: String = lines.lines().map(|line| format!("export {line}; ")).collect();
    (token, exports)
}

/// A command that sets variables before it runs another one.
pub(super) fn with_exports(exports: &str, command: Vec<String>) -> Vec<String> {
    let shell = ["sh".to_owned(), "-c".into(), format!("{exports} exec \"$@\""), "sh".into()];
    shell.into_iter().chain(command).collect()
}

#[test]
fn token_holds_the_key_of_the_cache() {
    let host = StagedHost::new();
    let (_token, exports) = token_of_psi(&host);
    let pin = host.file("pin", PIN);
    let flags = with_exports(&exports, host.flags());
    let module = Token::kryoptic_module().display().to_string();
    let more = [
        "--backend",
        "hsm",
        "--pkcs11-module",
        &module,
        "--token-label",
        "psi",
        "--pin-file",
        pin.to_str().unwrap(),
    ];
    let (report, _) = host.init_ends(0, &flags, &more);
    assert_in_order(
        &report,
        &[
            "seal the client secret to this host's TPM",
            "seal hsm-pin to this host's TPM",
            "create the key of the cache, have the token wrap it",
            "  $ psictl cache init --backend hsm\n",
            "key        bound to the key of the PKCS#11 token\n",
        ],
    );
    assert_eq!(about(&host, "/etc/psi/hsm-pin.cred"), "root:root 644");
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken");
    assert_eq!(
        host.sh("test ! -e /etc/psi/cache.key && grep -c pin_credential /etc/psi/config.toml"),
        "1"
    );
}
