//! The packaged unit of a user's psid under a real service manager, which is started for the test: a broken config
//! fails the unit, a call at the socket gets the line, and the corrected config is found by the next call.

use std::fs;
use std::process::Command;

use psi_harness::{Instance, assert_in_order, id, program, repository, run};

/// A manager of its own in namespaces of its own, and the commands of `$1` while it runs.
const MANAGER: &str = r#"
mount -t tmpfs none /run && mkdir -p /run/systemd/system
umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup
own=/sys/fs/cgroup/psi-test-$$-$(cut -d. -f1 /proc/uptime)
mkdir $own && echo $$ >$own/cgroup.procs
/lib/systemd/systemd --user >$XDG_RUNTIME_DIR/log 2>&1 &
manager=$!
for try in $(seq 150); do systemctl --user is-system-running 2>/dev/null | grep -q . && break; sleep 0.2; done
sh -c "$1"
kill $manager; wait $manager
echo $$ >/sys/fs/cgroup/cgroup.procs
find $own -depth -type d -exec rmdir {} \; 2>/dev/null
"#;

#[test]
fn broken_config_fails_the_unit_and_the_next_call_finds_the_correction() {
    let instance = Instance::empty();
    let units = instance.directory().join("units");
    fs::create_dir_all(units.join("psid.service.d")).unwrap();
    for unit in ["psid.socket", "psid.service"] {
        fs::copy(repository().join("contrib/systemd/user").join(unit), units.join(unit)).unwrap();
    }
    let socket = instance.run().join("psi/psid.sock");
    let drop_in = format!(
        "[Service]\nExecStart=\nExecStart={} --config {}\nEnvironment=PSI_STATE_DIR={} PSI_SOCKET={} PSI_RUN_DIR={}\n",
        program("psid").display(),
        instance.config().display(),
        instance.state().display(),
        socket.display(),
        instance.run_directory().display(),
    );
    fs::write(units.join("psid.service.d/test.conf"), drop_in).unwrap();
    fs::write(instance.config(), "[cache]\nbackend_ = \"tpm\"\n").unwrap();
    let lookup = format!("{} lookup 2>&1; echo lookup $?\n", program("psi-driver").display());
    let steps = format!(
        "systemctl --user start psid.socket; echo socket $?\n\
         systemctl --user start psid.service 2>/dev/null; echo start $?\n\
         systemctl --user --failed --no-legend --plain\n{lookup}{lookup}sleep 3\n\
         systemctl --user is-active psid.socket\n\
         systemctl --user show psid.service -p ActiveState,NRestarts,StatusText,Result\n\
         echo '[cache]' >{}\n{lookup}\
         systemctl --user is-active psid.service\n",
        instance.config().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.args(["sh", "-c", MANAGER, "sh", &steps]).env_clear();
    for (name, value) in [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("HOME", instance.directory().display().to_string()),
        ("XDG_RUNTIME_DIR", instance.run().display().to_string()),
        ("SYSTEMD_UNIT_PATH", format!("{}:", units.display())),
        ("PSI_SOCKET", socket.display().to_string()),
        ("SECRET_ID", id(1)),
    ] {
        command.env(name, value);
    }
    let outcome = run(command, b"");
    let output = outcome.stdout_text();
    let log = fs::read_to_string(instance.run().join("log")).unwrap_or_default();
    let context = format!("{output}\n{}\n{log}", outcome.stderr);
    let line = format!("{}:2: unknown field `backend_`", instance.config().display());
    eprintln!("{context}");
    let rest = assert_in_order(
        &output,
        &[
            "socket 0\n",
            "start 1\n",
            "psid.service loaded failed failed",
            &format!("psid cannot start with its config: {line}"),
            "lookup 65\n",
            &format!("psid cannot start with its config: {line}"),
            "lookup 65\n",
            "active\n",
        ],
    );
    for property in ["NRestarts=0\n", "ActiveState=failed\n", &format!("StatusText={line}")] {
        assert!(rest.contains(property), "{property}: {context}");
    }
    assert!(rest.ends_with("lookup 66\nactive\n"), "{context}");
}
