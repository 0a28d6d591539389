//! The removal of the package by dpkg and rpm: refused while podman's secrets depend on psi.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::built;
use super::packages::{deb, rpm};
use psi_harness::{Outcome, assert_in_order, repository, run};

/// What both packages do. `install`, `upgrade`, `remove` and `version` are shell functions.
const STORY: &str = r#"
say() { echo "== $*"; }
# A secret with commands that name psi.
secret() {
    printf x | podman secret create --driver shell --driver-opts 'lookup=echo psi' \
        --driver-opts 'store=cat >/dev/null' --driver-opts 'delete=exec true' --driver-opts 'list=exec true' "$1" - >/dev/null
}
install >/run/log 2>&1 || { cat /run/log; exit 1; }
psictl dependents
secret db_pw; secret api_key
tar -C /run -cf - --files-from /dev/null | podman import -q - localhost/empty:1 >/dev/null 2>&1
podman create -q --name web --secret db_pw localhost/empty:1 true >/dev/null
# The store of a user's podman.
echo 'anna:x:4321:4321::/home/anna:/bin/sh' >>/etc/passwd
mkdir -p /home/anna/.local/share/containers/storage/secrets
cp /var/lib/containers/storage/secrets/secrets.json /home/anna/.local/share/containers/storage/secrets/
touch /home/anna/.local/share/containers/storage/secrets/secrets.lock
chown -R 4321:4321 /home/anna

say refused
remove && exit 1
say "kept $(version)"
say upgraded
upgrade >/dev/null 2>&1
say "now $(version)"
say forced
PSI_REMOVE=force remove >/dev/null 2>&1
say "gone $(version)"
say without dependents
install >/dev/null 2>&1
podman rm -f web >/dev/null; podman secret rm db_pw api_key >/dev/null
rm -r /home/anna
remove >/dev/null 2>&1
say "gone $(version)"
"#;

/// Runs the story on a staged host; stdout and stderr together.
#[track_caller]
fn tell(functions: &str) -> String {
    let base = tempfile::Builder::new().prefix("psi-stage-").tempdir_in("/tmp").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(repository().join("tests/packaging/stage.sh")).arg(base.path());
    command.args(["sh", "-euc", &format!("exec 2>&1\n{functions}\n{STORY}")]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    // Packages and podman take longer than the harness waits for one program.
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}

const EXPECTED: [&str; 9] = [
    "no podman secret depends on psi\n",
    "== refused\n",
    "psi serves 2 secrets of /home/anna/.local/share/containers/storage: api_key, db_pw\n",
    "psi serves 2 secrets of /var/lib/containers/storage: api_key, db_pw\n",
    "used by 1 container: web\n",
    "psid: not removed: without psi these secrets cannot be read. 'psictl migrate --to file' hands them back",
    "== kept 9.8.7\n",
    "== now 9.8.8\n",
    "== forced\n",
];

/// Asserts that removals were refused until they were forced or nothing depended on the package.
#[track_caller]
fn assert_removed_when_forced_only(text: &str) {
    assert_in_order(text, &EXPECTED);
    assert_in_order(
        text,
        &[
            "== forced\n",
            "== gone not installed\n",
            "== without dependents\n",
            "== gone not installed\n",
        ],
    );
}

#[test]
fn dpkg_removes_nothing_that_secrets_depend_on() {
    let built = built();
    let packages = tempfile::tempdir().unwrap();
    let [old, new] = ["9.8.7", "9.8.8"]
        .map(|version| deb(built.path(), &packages.path().join(version), version));
    let functions = format!(
        "install() {{ dpkg -i --force-depends {}; }}\nupgrade() {{ dpkg -i --force-depends {}; }}\n\
         remove() {{ dpkg -r psid; }}\n\
         version() {{ dpkg-query -W -f '${{db:Status-Status}} ${{Version}}' psid | sed -n 's/^installed //p' | grep . || echo not installed; }}",
        old.display(),
        new.display()
    );
    let text = tell(&functions);
    assert_removed_when_forced_only(&text);
    assert!(text.contains("pre-removal script subprocess returned error exit status 1"), "{text}");
}

/// dpkg's other words for the script, of deb-prerm's page of the Debian policy.
#[test]
fn prerm_refuses_no_upgrade() {
    let script = repository().join("contrib/packaging/deb/prerm");
    let directory = tempfile::tempdir().unwrap();
    let psictl = directory.path().join("psictl");
    fs::write(&psictl, "#!/bin/sh\necho a secret\nexit 1\n").unwrap();
    fs::set_permissions(&psictl, fs::Permissions::from_mode(0o755)).unwrap();
    let prerm = |args: &[&str], force: bool| -> Outcome {
        let mut sh = Command::new("sh");
        sh.arg(&script).args(args).env_clear();
        sh.env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
        if force {
            sh.env("PSI_REMOVE", "force");
        }
        run(sh, b"")
    };
    for args in [
        &["upgrade", "9.8.8"][..],
        &["failed-upgrade", "9.8.7", "9.8.8"],
        &["deconfigure", "in-favour", "other", "1", "removing", "psid", "9.8.7"],
    ] {
        let outcome = prerm(args, false);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{args:?}");
    }
    for args in [&["remove"][..], &["remove", "in-favour", "other", "1"]] {
        let refused = prerm(args, false);
        assert!(refused.code == 1 && refused.stdout.is_empty(), "{args:?}");
        assert!(refused.stderr.contains("PSI_REMOVE=force"), "{}", refused.stderr);
    }
}

#[test]
fn rpm_removes_nothing_that_secrets_depend_on() {
    let built = built();
    let packages = tempfile::tempdir().unwrap();
    let [old, new] = ["9.8.7", "9.8.8"]
        .map(|version| rpm(built.path(), &packages.path().join(version), version));
    let functions = format!(
        "rpm() {{ command rpm --force-debian --dbpath /var/lib/rpm \"$@\"; }}\n\
         install() {{ rpm -i --nodeps {}; }}\nupgrade() {{ rpm -U --nodeps {}; }}\nremove() {{ rpm -e psid; }}\n\
         version() {{ rpm -q --qf '%{{VERSION}}\\n' psid >/run/version 2>/dev/null && cat /run/version || echo not installed; }}",
        old.display(),
        new.display()
    );
    let text = tell(&functions);
    assert_removed_when_forced_only(&text);
    assert!(text.contains("%preun(psid-9.8.7"), "{text}");
}
