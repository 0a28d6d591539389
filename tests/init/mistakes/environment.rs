//! A host that lacks something, and `psictl init` in an unusual place.

use super::super::staged_host::{StagedHost, With, about};
use super::assert_answer;

#[test]
fn no_tpm_is_found_before_anything_is_asked_of_infisical() {
    let host = StagedHost::with(With::NoTpm);
    let before = host.files();
    let (_, error) = host.init_ends(65, &host.flags(), &[]);
    assert_answer(&host, "no TPM", &error);
    assert_eq!((host.files(), host.logins()), (before, 0));
    host.init_ends(0, &host.flags(), &["--seal-with", "host"]);
}

#[test]
fn ordinary_user_needs_a_newer_systemd() {
    let host = StagedHost::new();
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/tmp"];
    let outcome = host.run(&[&user[..], &["psictl", "init", "--yes"]].concat(), "");
    assert_eq!(outcome.code, 65);
    assert_answer(&host, "ordinary user before systemd 256", &outcome.stderr);
}

#[test]
fn programs_without_the_package_s_user_name_the_package() {
    let host = StagedHost::new();
    host.sh("sed -i /^psi:/d /etc/passwd");
    let (_, error) = host.init_ends(65, &host.flags(), &[]);
    assert_answer(&host, "package not installed", &error);
}

#[test]
fn missing_podman_is_named() {
    let host = StagedHost::new();
    host.sh("mv /usr/bin/podman /usr/bin/podman.away");
    let (_, error) = host.init_ends(65, &host.flags(), &[]);
    assert_answer(&host, "podman not installed", &error);
    host.sh("mv /usr/bin/podman.away /usr/bin/podman");
}

#[test]
fn other_driver_of_podman_is_found_by_the_probe() {
    let host = StagedHost::new();
    host.sh("mkdir -p /etc/containers/containers.conf.d
             printf '[secrets]\\ndriver = \"file\"\\n' >/etc/containers/containers.conf.d/99-mine.conf");
    let (report, error) = host.init_ends(65, &host.flags(), &[]);
    assert_answer(&host, "other driver in containers.conf", &error);
    assert!(report.contains("  $ rm /etc/containers/containers.conf.d/50-psi.conf\n"), "{report}");
    assert_eq!(host.sh("podman secret ls -q"), "", "the probe is left");
    host.sh("rm /etc/containers/containers.conf.d/99-mine.conf");
    host.init_ends(0, &host.flags(), &[]);
}

#[test]
fn psid_that_a_lookup_woke_is_no_obstacle() {
    let host = StagedHost::new();
    host.sh("systemctl enable --now psid.socket psid-creds.socket && psi-driver list");
    assert_eq!(host.run(&["systemctl", "is-active", "psid.service"], "").code, 0);
    let (report, _) = host.init_ends(0, &host.flags(), &[]);
    let line = report.lines().find(|line| line.contains("psid was stopped")).unwrap();
    assert_answer(&host, "psid awake already", line.trim_start());
    assert_eq!(host.sh("psi-driver get myapp--TOKEN"), "t0ken");
}

#[test]
fn umask_077_is_no_obstacle() {
    let host = StagedHost::new();
    let mut flags =
        vec!["sh".to_owned(), "-c".into(), "umask 077; exec \"$@\"".into(), "sh".into()];
    flags.extend(host.flags());
    let (report, _) = host.init_ends(0, &flags, &[]);
    let line = report.lines().find(|line| line.contains("write /etc/psi/config.toml")).unwrap();
    assert_answer(&host, "umask 077", line);
    assert_eq!(about(&host, "/etc/psi/config.toml"), "root:psi 640");
    assert_eq!(about(&host, "/etc/psi/infisical-client-secret.cred"), "root:root 644");
    assert_eq!(about(&host, "/etc/containers/containers.conf.d"), "root:root 755");
}

#[test]
fn store_before_init_names_init() {
    let host = StagedHost::new();
    host.sh("psictl install --force 2>/dev/null || psictl install
             systemctl enable --now psid.socket psid-creds.socket");
    let outcome = host.run(&["podman", "secret", "create", "early", "-"], "a literal");
    assert_ne!(outcome.code, 0);
    let line = outcome.stderr.lines().find(|line| line.contains("psi-driver: ")).unwrap();
    assert_answer(&host, "store before init", &line[line.find("psi-driver: ").unwrap()..]);
    host.init_ends(0, &host.flags(), &[]);
    assert_eq!(host.run(&["podman", "secret", "create", "early", "-"], "a literal").code, 0);
}

#[test]
fn without_systemd_nothing_is_begun() {
    let host = StagedHost::new();
    let before = host.files();
    host.sh("rmdir /run/systemd/system");
    let (_, error) = host.init_ends(65, &host.flags(), &[]);
    assert_answer(&host, "no systemd", &error);
    assert_eq!((host.files(), host.logins()), (before, 0));
}

#[test]
fn masked_unit_is_to_be_unmasked() {
    let host = StagedHost::new();
    host.sh("touch /run/stage/masked");
    let (_, error) = host.init_ends(65, &host.flags(), &[]);
    assert_answer(&host, "psid's unit masked", &error);
    host.sh("rm /run/stage/masked");
    host.init_ends(0, &host.flags(), &[]);
}

#[test]
fn full_disk_is_named_and_leaves_the_old_config() {
    let host = StagedHost::new();
    host.sh("cp -a /etc/psi /root/psi-etc && mount -t tmpfs -o size=16k,mode=1770,gid=$(id -g psi) tmpfs /etc/psi && \
             cp -a /root/psi-etc/config.toml /etc/psi/; rm -r /root/psi-etc; \
             head -c 100000 /dev/zero >/etc/psi/ballast 2>/dev/null || true");
    let (_, error) = host.init_ends(74, &host.flags(), &[]);
    assert_answer(&host, "full disk", &error);
    assert!(!host.sh("ls -A /etc/psi").contains("cred"));
    host.sh("rm /etc/psi/ballast; mount -o remount,size=10m /etc/psi");
    host.init_ends(0, &host.flags(), &[]);
}
