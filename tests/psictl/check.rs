//! `psid check`: what it refuses before psid meets it, each with its line or its command.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use psi_harness::{
    CLIENT_SECRET, Config, FakeInfisical, Instance, assert_in_order, copy_program, one_line,
    program, run,
};

fn check(instance: &Instance, args: &[&str]) -> (i32, String, String) {
    let outcome = instance.psid().args(&[&["check"][..], args].concat()).run();
    (outcome.code, outcome.stdout_text(), outcome.stderr)
}

#[test]
fn check_refuses_what_a_start_would_accept_and_never_serve() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let good = Config::of(&infisical).workload("app", "/myapp", false).to_string();
    for (from, to, words) in [
        ("\"/myapp\"", "\"/../x\"", "the path '/../x' contains a dot segment"),
        ("6f2d1b0e-0000-4000-8000-00000000000a", "my-project", "the id 'my-project' is no UUID"),
        (
            "workloads.\"app\"",
            "workloads.\"my app\"",
            "workload 'my app' cannot be the name of a quadlet",
        ),
        ("workloads.\"app\"", "workloads.\"x.service\"", "name it 'x', without the suffix"),
        (
            "secrets = [{ project = \"myproject\", path = \"/myapp\", recursive = false }]",
            "secrets = []",
            "workload 'app': secrets is empty",
        ),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good, "{from}");
        fs::write(instance.config(), &text).unwrap();
        let (code, stdout, stderr) = check(&instance, &[]);
        assert_eq!((code, stdout.as_str()), (65, ""), "{stderr}");
        let line = one_line(&stderr);
        let path = instance.config().display().to_string();
        assert!(line.starts_with(&format!("psid: {path}:")) && line.contains(words), "{line}");
        let (_, stdout, _) = check(&instance, &["--json"]);
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["well"], false);
        assert!(report["problems"][0]["what"].as_str().unwrap().contains(words), "{report}");
    }
}

/// An update must not keep psid from starting with what it ran with before.
#[test]
fn psid_starts_with_what_check_refuses() {
    let infisical = FakeInfisical::with(&json!({"/myapp": {"A": "1"}}));
    let instance = Instance::of(&infisical);
    let good = Config::of(&infisical).workload("app", "/myapp", false).to_string();
    let odd = "[workloads.\"my app\"]\nprovider = \"infisical\"\nsecrets = []\n";
    fs::write(instance.config(), good + odd).unwrap();
    let psid = instance.start();
    psid.await_log("workload 'my app' cannot be the name of a quadlet");
    assert_eq!(instance.driver(&["get", "app--A"]).text(), "1");
}

#[test]
fn check_refuses_the_untouched_template() {
    let instance = Instance::empty();
    let template = psi_harness::repository().join("contrib/config/psi.toml");
    fs::copy(template, instance.config()).unwrap();
    let (code, _, stderr) = check(&instance, &[]);
    assert_eq!(code, 65);
    assert!(stderr.contains("it names no provider and no key backend"), "{stderr}");
    assert!(stderr.contains("`psictl init`"), "{stderr}");
}

#[test]
fn check_refuses_files_that_psid_cannot_read() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let text = fs::read_to_string(instance.config()).unwrap();
    let with_ca = text.replace("api_url", "ca_cert = \"/nonexistent/ca.pem\"\napi_url");
    fs::write(instance.config(), with_ca).unwrap();
    let (code, _, stderr) = check(&instance, &[]);
    assert_eq!(code, 65);
    assert!(
        stderr.contains("ca_cert names /nonexistent/ca.pem, which psid's user cannot read"),
        "{stderr}"
    );
}

/// The whole check runs as another user, as root's does as psi.
#[test]
fn config_of_root_alone_is_found_by_its_reader() {
    let infisical = FakeInfisical::with(&json!({}));
    let instance = Instance::of(&infisical);
    let as_nobody = || {
        let program = instance.run().join("psid");
        copy_program("psid", &program);
        let start = instance.psid().with_program(&program).args(&["check"]);
        start.through(&["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]).run()
    };
    for directory in [instance.directory(), &instance.directory().join("etc")] {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(instance.config(), Permissions::from_mode(0o600)).unwrap();
    let outcome = as_nobody();
    assert_eq!(outcome.code, 65, "{}", outcome.stdout_text());
    assert!(outcome.stderr.contains("Permission denied"), "{}", outcome.stderr);
    fs::set_permissions(instance.config(), Permissions::from_mode(0o644)).unwrap();
    let outcome = as_nobody();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let sealed = instance.config().with_file_name("infisical-client-secret.cred");
    fs::write(&sealed, "sealed").unwrap();
    fs::set_permissions(&sealed, Permissions::from_mode(0o600)).unwrap();
    let outcome = as_nobody();
    assert_eq!(outcome.code, 65);
    let remedy = format!("`chmod 0644 {}`: its content is encrypted", sealed.display());
    assert!(outcome.stderr.contains(&remedy), "{}", outcome.stderr);
}

/// A host with the user psi and the system's paths, which go with the namespace.
const HOST: &str = r#"
set -e
certificates=$(mktemp -d); cp -rL /etc/ssl $certificates
mount -t tmpfs none /etc; mount -t tmpfs none /run; chmod 0755 /etc /run
cp -r $certificates/ssl /etc; rm -r $certificates
printf 'root:x:0:0::/root:/bin/sh\npsi:x:990:990::/:/bin/false\n' >/etc/passwd
printf 'root:x:0:\npsi:x:990:\nca:x:991:psi\n' >/etc/group
mkdir -m 0755 /etc/psi; cp "$1" /etc/psi/config.toml
psid=$2; set +e
"#;

fn on_host(config: &str, script: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::write(&path, config).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{HOST}exec 2>&1\n{script}"), "sh"]);
    command.arg(path).arg(program("psid")).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let outcome = run(command, b"");
    assert_eq!(outcome.code, 0, "{}{}", outcome.stdout_text(), outcome.stderr);
    outcome.stdout_text()
}

/// A config with `ca_cert`, a file that psid reads.
fn config_with_ca() -> String {
    let config = Config::of(&FakeInfisical::with(&json!({}))).to_string();
    config.replace("api_url", "ca_cert = \"/etc/psi/ca.pem\"\napi_url")
}

/// Root could read everything: its check becomes psid's user, and looks behind the unit's sandbox.
#[test]
fn check_by_root_meets_what_psid_will_meet() {
    let output = on_host(
        &config_with_ca(),
        r#"
        echo ca >/etc/psi/ca.pem; chown 0:991 /etc/psi/ca.pem; chmod 0640 /etc/psi/ca.pem
        chmod 0600 /etc/psi/config.toml; $psid check; echo $?
        $psid doctor
        chown 0:990 /etc/psi/config.toml; chmod 0640 /etc/psi/config.toml; $psid check; echo $?
        echo sealed >/etc/psi/infisical-client-secret.cred
        chmod 0600 /etc/psi/infisical-client-secret.cred; $psid check; echo $?
        chmod 0644 /etc/psi/infisical-client-secret.cred
        sed -i s,/etc/psi/ca.pem,/root/ca.pem, /etc/psi/config.toml; $psid check; echo $?
        true"#,
    );
    assert_in_order(
        &output,
        &[
            "psid's user psi cannot read /etc/psi/config.toml: Permission denied",
            "`chown root:psi /etc/psi/config.toml && chmod 0640 /etc/psi/config.toml`",
            "65\n",
            "\"what\": \"psid's user psi cannot read /etc/psi/config.toml",
            "/etc/psi/config.toml is good\n0\n",
            "psid's user cannot read /etc/psi/infisical-client-secret.cred",
            "65\n",
            "ca_cert names /root/ca.pem, which psid.service does not see (ProtectHome=yes)",
            "65\n",
        ],
    );
}

/// `psictl init` checks a candidate before anything is written: not even before psid's first start is a wrong secret
/// sent twice.
#[test]
fn candidate_of_root_is_checked_as_psids_user() {
    let infisical = FakeInfisical::with(&json!({}));
    let config = Config::of(&infisical).to_string();
    let output = on_host(
        &config,
        &format!(
            r#"
        mv /etc/psi/config.toml /etc/candidate; chmod 0600 /etc/candidate
        for try in 1 2; do
            echo wrong | $psid --config /etc/candidate check --online --secret-fd 0; echo $?
        done
        echo {CLIENT_SECRET} | PSI_RUN_DIR=/run/psid $psid --config /proc/self/fd/3 check --online --secret-fd 0 \
            3</etc/candidate; echo $?
        stat -c '%U %a %n' /run/psid /etc/psi; ls /etc/psi"#
        ),
    );
    assert_eq!(infisical.logins(), 2, "{output}");
    assert_eq!(output.matches("\n65\n").count(), 2, "{output}");
    assert!(output.ends_with("\n0\npsi 700 /run/psid\nroot 755 /etc/psi\n"), "{output}");
}

/// A drop-in may change psid's user and its sandbox: systemd's word counts.
#[test]
fn check_by_root_respects_drop_ins_of_the_unit() {
    let output = on_host(
        &config_with_ca(),
        r#"
        mkdir -p /run/systemd/system /etc/stub; PATH=/etc/stub:$PATH
        printf '#!/bin/sh\ncat /etc/stub/show\n' >/etc/stub/systemctl; chmod 0755 /etc/stub/systemctl
        echo 'web:x:1234:1234::/:/bin/false' >>/etc/passwd
        show() { printf '%s\n' LoadState=loaded ProtectSystem=strict StateDirectory=psi RuntimeDirectory=psid "$@" >/etc/stub/show; }
        echo ca >/etc/psi/ca.pem; chmod 0640 /etc/psi/ca.pem; chmod 0644 /etc/psi/config.toml
        show User=psi; $psid check; echo $?
        chown 0:991 /etc/psi/ca.pem; show User=web SupplementaryGroups=ca; $psid check; echo $?
        show User=web; $psid check; echo $?
        show User=; $psid check; echo $?
        chmod 0644 /etc/psi/ca.pem
        show User=psi InaccessiblePaths=-/etc/psi/ca.pem; $psid check; echo $?
        show User=psi 'ReadOnlyPaths=/var/lib/psi /x'; $psid check; $psid doctor | grep '"what"'
        show User=psi NeedDaemonReload=yes; $psid check; $psid doctor | grep '"what"'
        show User=psi 'ExecStart={ path=/usr/bin/psid ; argv[]=/usr/bin/psid --config /etc/other.toml ; ignore_errors=no ; }'
        $psid check
        show User=psi ProtectHome=tmpfs BindReadOnlyPaths=/etc/psi:/home/psi:rbind
        sed -i s,/etc/psi/ca.pem,/home/psi/ca.pem, /etc/psi/config.toml; $psid check; echo $?
        show User=psi ProtectHome=tmpfs; $psid check; echo $?"#,
    );
    assert_in_order(
        &output,
        &[
            "ca_cert names /etc/psi/ca.pem, which psid's user cannot read",
            "65\n",
            "/etc/psi/config.toml is good\n0\n",
            "which psid's user cannot read",
            "65\n",
            "/etc/psi/config.toml is good\n0\n",
            "which psid.service does not see (InaccessiblePaths=-/etc/psi/ca.pem)",
            "65\n",
            "psid.service does not let psid write /var/lib/psi (ReadOnlyPaths=/var/lib/psi /x)",
            "\"what\": \"psid.service does not let psid write /var/lib/psi",
            "warning: systemd has not loaded the newest files of psid.service; `systemctl daemon-reload`",
            "\"what\": \"systemd has not loaded the newest files",
            "psid.service runs psid with /etc/other.toml, not with /etc/psi/config.toml",
            "/etc/psi/config.toml is good\n0\n",
            "ca_cert names /home/psi/ca.pem, which psid.service does not see (ProtectHome=tmpfs)",
            "65\n",
        ],
    );
}
