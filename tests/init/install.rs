//! `psictl install` on a host whose podman reads `/etc/containers`: what podman does with a new secret counts.

use psi_harness::Outcome;

use super::staged_host::StagedHost;

const DROP_IN: &str = "/etc/containers/containers.conf.d/50-psi.conf";
const LATE: &str = "/etc/containers/containers.conf.d/99-late.conf";
const LIST: &str = "podman secret ls --format '{{.Name}}' | grep psi-probe || true; \
                    psi-driver list | grep ^0000000000 || true";

/// A host with a psid that serves, and without the drop-in.
fn served() -> StagedHost {
    let host = StagedHost::new();
    host.init_ends(0, &host.flags(), &[]);
    host.sh(&format!("rm {DROP_IN}"));
    host
}

fn install(host: &StagedHost, flags: &[&str]) -> Outcome {
    host.run(&[&["psictl", "install"], flags].concat(), "")
}

/// Asserts that install refuses with this status, that it changes nothing, and that podman has no psi.
#[track_caller]
fn assert_refused(host: &StagedHost, code: i32, words: &str) {
    let Outcome { code: found, stderr, .. } = install(host, &[]);
    assert_eq!(found, code, "{stderr}\n{}", host.logs());
    let begin = "psictl: install: podman's config was not changed, since psid could not store a secret now: ";
    assert!(stderr.starts_with(begin) && stderr.contains(words), "{stderr}");
    assert!(stderr.ends_with("run `psictl install` again, or add --force\n"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(host.sh(&format!("ls {DROP_IN} 2>/dev/null || echo none")), "none");
}

#[test]
fn install_proves_that_podman_uses_psi_and_leaves_nothing() {
    let host = served();
    let before = host.sh("podman secret ls --format '{{.ID}}' | sort; psi-driver list");
    for begin in [format!("wrote {DROP_IN}\n"), format!("{DROP_IN} is up to date\n")] {
        let outcome = install(&host, &[]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
        let report = outcome.stdout_text();
        assert!(report.starts_with(&begin), "{report}");
        assert!(report.ends_with("one was created, looked up and removed\n"), "{report}");
    }
    assert_eq!(host.sh("podman secret ls --format '{{.ID}}' | sort; psi-driver list"), before);
}

#[test]
fn install_names_the_file_by_which_new_secrets_go_elsewhere() {
    let host = served();
    for (text, words) in [
        (
            "[secrets]\ndriver = \"file\"\n",
            "new secrets go to podman's driver 'file', not to psi: ",
        ),
        ("[Secrets.Opts]\nlookup = \"exec true\"\n", "podman runs other commands for them: "),
        ("[secrets.opts]\nroot = \"/x\"\n", "podman creates no new secret: "),
        ("[secrets]\ndriver = \"vault\"\n", "podman creates no new secret: "),
        ("[secrets\n", "podman lists no secrets: "),
    ] {
        host.sh(&format!("printf '{}' >{LATE}", text.replace('\n', "\\n")));
        let Outcome { code, stderr, .. } = install(&host, &[]);
        assert_eq!(code, 65, "{text}: {stderr}");
        assert!(stderr.contains(words) && stderr.contains(LATE), "{text}: {stderr}");
        host.sh(&format!("rm {LATE}"));
        assert_eq!(host.sh(LIST), "", "{text}");
    }
    // A variable decides it, and no drop-in.
    host.sh("printf '[secrets]\\ndriver = \"file\"\\n' >/root/other.conf");
    let args = ["env", "CONTAINERS_CONF=/root/other.conf", "psictl", "install"];
    let Outcome { code, stderr, .. } = host.run(&args, "");
    assert!(code == 65 && stderr.contains("by /root/other.conf"), "{code}: {stderr}");
    // What psi's finder does not check is podman's word alone.
    host.sh(&format!("printf '[engine]\\nruntime = 5\\n' >{LATE}"));
    let Outcome { code, stderr, .. } = install(&host, &[]);
    assert!(code == 65 && stderr.contains("99-late.conf"), "{code}: {stderr}");
}

#[test]
fn install_refuses_without_a_psid() {
    let host = StagedHost::new();
    assert_refused(&host, 69, "no connection to psid at /run/psi/psid.sock");
    let Outcome { code, stderr, stdout } = install(&host, &["--force"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains(
            "psid could not store a secret now, and podman's config changes all the same"
        ),
        "{stderr}"
    );
    let report = String::from_utf8(stdout).unwrap();
    assert!(
        report.contains(&format!("wrote {DROP_IN}\n")) && report.contains("not proven: "),
        "{report}"
    );
}

#[test]
fn install_refuses_without_a_program_or_a_key() {
    let host = StagedHost::new();
    let Outcome { code, stderr, .. } = install(&host, &["--program", "/opt/psi-driver"]);
    assert!(
        code == 65 && stderr.contains("/opt/psi-driver does not exist; install psi-driver there"),
        "{stderr}"
    );
    host.sh("systemctl enable --now psid.socket psid-creds.socket");
    assert_refused(&host, 65, "psictl init");
    host.init_ends(0, &host.flags(), &[]);
    host.sh(&format!("rm {DROP_IN}; mv /etc/psi/cache.key /root/; systemctl restart psid.service"));
    let Outcome { code, stderr, .. } = install(&host, &[]);
    assert!(code != 0 && stderr.contains("podman's config was not changed"), "{code}: {stderr}");
    host.sh("mv /root/cache.key /etc/psi/; systemctl restart psid.service");
    assert_eq!(install(&host, &[]).code, 0);
}

#[test]
fn install_refuses_where_the_state_directory_takes_no_secret() {
    let host = served();
    host.sh("mount --bind /var/lib/psi /var/lib/psi && mount -o remount,bind,ro /var/lib/psi");
    let Outcome { code, .. } = install(&host, &[]);
    assert_ne!(code, 0);
    assert_refused(&host, code, "Read-only file system");
    host.sh("umount /var/lib/psi");
    host.sh("mount -t tmpfs -o size=16k,mode=700,uid=$(id -u psi),gid=$(id -g psi) tmpfs /var/lib/psi/secrets && \
             head -c 100000 /dev/zero >/var/lib/psi/secrets/ballast 2>/dev/null || true");
    let Outcome { code, .. } = install(&host, &[]);
    assert_ne!(code, 0);
    assert_refused(&host, code, "No space left on device");
    host.sh("umount /var/lib/psi/secrets");
    assert_eq!(install(&host, &[]).code, 0);
}

#[test]
fn interrupted_install_is_reported_and_cleaned_by_the_next_one() {
    let host = served();
    // Killed at a time of its steps.
    for tenths in 0..12 {
        host.sh(&format!(
            "setsid psictl install >/dev/null 2>&1 & sleep 0.0{tenths:02}; kill -9 -$! 2>/dev/null || true; wait"
        ));
    }
    // And for sure in the middle.
    host.sh("printf x | podman secret create psi-probe-0123456789abcdef - && \
             printf x | SECRET_ID=0000000000abcdef012345678 psi-driver store");
    assert!(host.sh(LIST).lines().count() >= 2);
    let doctor = host.run(&["psictl", "doctor"], "").stdout_text();
    let found = doctor.lines().find(|line| line.contains("[install-interrupted]"));
    let found = found.unwrap_or_else(|| panic!("{doctor}"));
    assert!(
        found.contains("psi-probe-0123456789abcdef")
            && found.contains("`psictl install` removes them"),
        "{found}"
    );
    assert_eq!(install(&host, &[]).code, 0);
    assert_eq!(host.sh(LIST), "");
    assert_eq!(
        host.sh("podman secret ls --format '{{.Name}}' | sort"),
        "myapp--DB_HOST\nmyapp--TOKEN"
    );
}
