//! psid as an unprivileged user, whom systemd-creds does not serve: a helper that is started for
//! each connection, as by `psid-creds.socket`, opens and seals for it.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{init, instance_on, psid_on};
use psi_harness::{FakeInfisical, Instance, Psid, Tpm, eventually, id, program};

const PSI: u32 = 1234;

/// Gives the instance to the user, and starts root's helper in it.
fn hand_over(instance: &Instance, tpm: &Tpm) {
    let etc = instance.directory().join("etc");
    for path in [etc.clone(), instance.run(), instance.state(), instance.sealed_key()] {
        chown(path, Some(PSI), Some(PSI)).unwrap();
    }
    for file in std::fs::read_dir(instance.state()).unwrap() {
        chown(file.unwrap().path(), Some(PSI), Some(PSI)).unwrap();
    }
    let socket = instance.run().join("creds.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    chown(socket, Some(PSI), Some(PSI)).unwrap();
    let device = tpm.device();
    // It ends with the test's process, which holds the last end of the socket.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = OwnedFd::from(stream.unwrap());
            let mut helper = Command::new(program("psid"));
            helper.arg("creds").env("SYSTEMD_TPM2_DEVICE", &device);
            helper.stdin(Stdio::from(stream.try_clone().unwrap())).stdout(Stdio::from(stream));
            helper.spawn().unwrap().wait().unwrap();
        }
    });
}

fn start(instance: &Instance, tpm: &Tpm) -> Psid {
    let user = format!("--reuid={PSI}");
    let group = format!("--regid={PSI}");
    psid_on(instance, tpm)
        .without("SYSTEMD_TPM2_DEVICE")
        .through(&["setpriv", &user, &group, "--clear-groups"])
        .start()
}

/// One request of a compromised psid.
fn ask(instance: &Instance, tpm: &Tpm, line: &str, bytes: &[u8]) -> String {
    tpm.flush();
    let mut helper = Command::new(program("psid"));
    helper.arg("creds").env("PSI_CONFIG", instance.config());
    helper.env("SYSTEMD_TPM2_DEVICE", tpm.device()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut helper = helper.spawn().unwrap();
    helper.stdin.take().unwrap().write_all(&[line.as_bytes(), b"\n", bytes].concat()).unwrap();
    String::from_utf8_lossy(&helper.wait_with_output().unwrap().stdout).into_owned()
}

fn sealed_by_host(name: &str) -> Vec<u8> {
    let mut creds = Command::new("systemd-creds");
    creds.args(["encrypt", "--with-key=host", &format!("--name={name}"), "-", "-"]);
    creds.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut creds = creds.spawn().unwrap();
    creds.stdin.take().unwrap().write_all(b"hunter2").unwrap();
    creds.wait_with_output().unwrap().stdout
}

#[test]
fn helper_opens_credentials_of_the_config_and_seals_only_the_cache_key() {
    let tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_on(&infisical);
    let open = |name: &str| ask(&instance, &tpm, &format!("open {name}"), &sealed_by_host(name));
    assert_eq!(open("infisical-client-secret"), "+hunter2");
    assert_eq!(open("psi-cache-key"), "+hunter2");
    for name in ["ssh-host-key", "infisical-client-secre", "client"] {
        let answer = open(name);
        assert!(answer.starts_with('!') && answer.contains(name), "{answer}");
        assert!(!answer.contains("hunter2"));
    }
    for name in ["infisical-client-secret", "ssh-host-key"] {
        let answer = ask(&instance, &tpm, &format!("seal {name} host "), b"secret");
        assert!(answer.starts_with("!the helper seals psi-cache-key only"), "{answer}");
    }
    assert!(ask(&instance, &tpm, "seal psi-cache-key host ", b"secret").starts_with('+'));
    // The helper ignores a config that psid's user owns.
    chown(instance.config(), Some(PSI), Some(PSI)).unwrap();
    assert!(open("infisical-client-secret").starts_with('!'));
    assert_eq!(open("psi-cache-key"), "+hunter2");
}

#[test]
fn helper_reports_the_tpm_state() {
    let mut tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_on(&infisical);
    let answer = ask(&instance, &tpm, "tpm", b"");
    assert!(answer.starts_with("+ready 0 "), "{answer}");
    // A key that was opened since the TPM was powered on.
    init(&instance, &tpm, &[]).ok();
    tpm.lock_out();
    assert_eq!(ask(&instance, &tpm, "tpm", b""), "+locked 1 1 1000");
    tpm.unlock();
    assert!(ask(&instance, &tpm, "tpm", b"").starts_with("+ready 0 1 1000"));
    let mut helper = Command::new(program("psid"));
    let output =
        helper.arg("creds").env("SYSTEMD_TPM2_DEVICE", "/dev/no-such-tpm").output().unwrap();
    assert!(output.stdout.starts_with(b"~"), "no request");
    let mut helper = Command::new(program("psid"));
    helper.arg("creds").env("SYSTEMD_TPM2_DEVICE", "/dev/no-such-tpm");
    let mut helper = helper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    helper.stdin.take().unwrap().write_all(b"tpm\n").unwrap();
    let answer = String::from_utf8(helper.wait_with_output().unwrap().stdout).unwrap();
    assert!(answer.starts_with("+missing /dev/no-such-tpm: No such file"), "{answer}");
}

/// psid has no access to the TPM's device: its helper reads the state.
#[test]
fn unprivileged_psid_reports_a_lockout_by_its_helper() {
    let mut tpm = Tpm::start();
    let infisical = FakeInfisical::with(&json!({}));
    let instance = instance_on(&infisical);
    init(&instance, &tpm, &[]).ok();
    hand_over(&instance, &tpm);
    tpm.lock_out();
    let psid = start(&instance, &tpm);
    let degraded = psid.degraded();
    assert!(
        degraded.contains("the TPM is locked: 1 failed authorizations of at most 1"),
        "{degraded}"
    );
    assert!(!degraded.contains("--force"), "{degraded}");
    psid.terminate();
    // If no helper listens, the message names the unit that starts it.
    std::fs::remove_file(instance.run().join("creds.sock")).unwrap();
    let listener = UnixListener::bind(instance.run().join("creds.sock")).unwrap();
    chown(instance.run().join("creds.sock"), Some(PSI), Some(PSI)).unwrap();
    drop(listener);
    let psid = start(&instance, &tpm);
    let degraded =
        eventually("the failure", || Some(psid.degraded()).filter(|reasons| !reasons.is_empty()));
    assert!(degraded.contains("`systemctl start psid-creds.socket`"), "{degraded}");
    assert!(!degraded.contains("--force") && !degraded.contains("cache init"), "{degraded}");
}

#[test]
fn unprivileged_psid_opens_seals_and_recovers_by_its_helper() {
    let mut tpm = Tpm::start();
    let mut infisical = FakeInfisical::with(&json!({}));
    let instance = instance_on(&infisical);
    let output = init(&instance, &tpm, &[]).text();
    let recovery = output.lines().map(str::trim).find(|line| line.len() == 71).unwrap();
    hand_over(&instance, &tpm);
    tpm.flush();
    let psid = start(&instance, &tpm);
    assert_eq!(psid.degraded(), "");
    instance.driver(&["store"]).id(id(1)).stdin("a literal").ok();
    tpm.flush();
    instance.driver(&["cache", "rekey"]).ok();
    psid.terminate();
    infisical.kill();
    tpm.power_cycle();
    tpm.extend(7);
    let psid = start(&instance, &tpm);
    let degraded = psid.degraded();
    assert!(degraded.contains("policy digest"), "systemd-creds' own words: {degraded}");
    tpm.flush();
    instance.driver(&["cache", "recover"]).stdin(recovery).ok();
    assert_eq!(psid.degraded(), "");
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "a literal");
}
