//! A host with the system's psid and users of it, each with a rootless podman and a home. Their commands see the
//! sockets at `/run/psi`, and an `/etc` of their own.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::{Config, FakeInfisical, Instance, Outcome, Psid, copy_program, run};

/// The group of the users' socket.
const GROUP: (&str, u32) = ("psi-users", 41_000);

/// A user of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostUser {
    /// The login name.
    pub name: &'static str,
    /// The uid, and the gid of the primary group.
    pub uid: u32,
}

/// A user, whose workload reads `/web`.
pub const WEB: HostUser = HostUser { name: "web", uid: 41_001 };
/// Another user, whose workload reads `/db`.
pub const DB: HostUser = HostUser { name: "db", uid: 41_002 };
const ROOT: HostUser = HostUser { name: "root", uid: 0 };

/// The files of the host.
pub struct UserHost {
    /// The fake Infisical.
    pub infisical: FakeInfisical,
    /// The files of the system's psid.
    pub instance: Instance,
    /// The system's psid; none while it is stopped.
    pub psid: Option<Psid>,
}

impl UserHost {
    /// A host with a workload `web` of [`WEB`], and other lines of the config. Nobody is in the group.
    pub fn of(secrets: &Value, more: impl Fn(Config) -> Config) -> Self {
        let infisical = FakeInfisical::with(secrets);
        let instance = Instance::of(&infisical);
        let host = Self { infisical, instance, psid: None };
        host.instance.configure(&more(host.config()));
        host.make_etc();
        for user in [WEB, DB] {
            host.make_home(user);
        }
        fs::create_dir(host.instance.directory().join("bin")).unwrap();
        for name in ["psid", "psi-driver", "psictl"] {
            copy_program(name, &host.program(name));
        }
        host.with_psid()
    }

    /// A config with the workload `web`.
    pub fn config(&self) -> Config {
        Config::of(&self.infisical).workload_of(WEB.name, "web", "/web")
    }

    fn with_psid(mut self) -> Self {
        self.start_psid();
        self
    }

    /// Starts psid; the users' socket is the group's.
    pub fn start_psid(&mut self) {
        let start = self.instance.psid().with_users_socket(&self.instance);
        // psid stays in the namespace of processes: it gets the test's signals.
        let enter = self.enter("unshare --mount sh -c");
        let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
        self.psid = Some(start.through(&enter).start());
        let socket = self.instance.users_socket();
        chown(&socket, Some(0), Some(GROUP.1)).unwrap();
        fs::set_permissions(&socket, Permissions::from_mode(0o660)).unwrap();
        fs::set_permissions(self.instance.socket(), Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes a config, and reloads psid.
    pub fn reconfigure(&mut self, config: &Config) {
        self.instance.configure(config);
        self.psid.as_mut().unwrap().reload();
    }

    /// The path of one of psi's programs, which every user can execute.
    pub fn program(&self, name: &str) -> PathBuf {
        self.instance.directory().join("bin").join(name)
    }

    /// A file of the host's `/etc`.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.instance.directory().join("host-etc").join(name)
    }

    /// A user's home.
    pub fn home(&self, user: HostUser) -> PathBuf {
        self.instance.directory().join("home").join(user.name)
    }

    /// Makes a user a member of the group.
    pub fn admit(&self, user: HostUser) {
        let mut usermod = self.command(ROOT, &["usermod", "-aG", GROUP.0, user.name]);
        usermod.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let outcome = run(usermod, b"");
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }

    /// Whether a user is a member of the group.
    pub fn is_admitted(&self, user: HostUser) -> bool {
        let groups = fs::read_to_string(self.etc("group")).unwrap();
        let group = groups.lines().find_map(|line| line.strip_prefix("psi-users:")).unwrap_or("");
        group.rsplit(':').next().unwrap().split(',').any(|name| name == user.name)
    }

    /// A command of root on this host, which calls the admin's socket.
    pub fn root(&self, args: &[&str]) -> Command {
        let mut command = self.command(ROOT, args);
        command.env("PSI_CONFIG", self.instance.config());
        command.env("PSI_STATE_DIR", self.instance.state());
        command.env("PSI_RUN_DIR", self.instance.run_directory());
        command
    }

    /// A command of a user who has just logged in.
    pub fn command(&self, user: HostUser, args: &[&str]) -> Command {
        // With the namespace of processes, podman's helpers end.
        let enter = self.enter("unshare --mount --pid --fork --kill-child --mount-proc sh -c");
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]);
        let uid = user.uid.to_string();
        let groups = match self.is_admitted(user) {
            true => format!("--groups={}", GROUP.1),
            false => "--clear-groups".into(),
        };
        if user != ROOT {
            command.args(["setpriv", "--reuid", &uid, "--regid", &uid, &groups]);
        }
        command.args(args).env_clear().current_dir("/");
        let mut path: OsString = self.instance.directory().join("bin").into();
        path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("PATH", path).env("HOME", self.home(user));
        command.env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"));
        command
    }

    /// Runs a user's command until it ends.
    #[track_caller]
    pub fn run(&self, user: HostUser, args: &[&str], stdin: &str) -> Outcome {
        run(self.command(user, args), stdin.as_bytes())
    }

    /// Runs a user's command, which must succeed; returns its stdout.
    #[track_caller]
    pub fn ok(&self, user: HostUser, args: &[&str], stdin: &str) -> String {
        let outcome = self.run(user, args, stdin);
        assert_eq!(outcome.code, 0, "{args:?}: {}{}", outcome.stdout_text(), outcome.stderr);
        outcome.stdout_text()
    }

    /// Runs a user's command, which must fail with this status; returns its last line on stderr.
    #[track_caller]
    pub fn fails(&self, user: HostUser, code: i32, args: &[&str], stdin: &str) -> String {
        let outcome = self.run(user, args, stdin);
        assert_eq!(outcome.code, code, "{args:?}: {}{}", outcome.stdout_text(), outcome.stderr);
        outcome.stderr.lines().last().unwrap_or_default().to_owned()
    }

    /// Runs a command where `/etc` and `/run` are the host's; `unshare` makes the namespaces.
    fn enter(&self, unshare: &str) -> Vec<String> {
        let directory = self.instance.directory().display();
        let mut script = format!(
            "mount --bind {directory}/host-etc /etc && mount -t tmpfs -o mode=755 none /run && mkdir -p /run/psi && \
             mount --bind {directory}/run /run/psi"
        );
        for HostUser { uid, .. } in [WEB, DB] {
            let runtime = format!("/run/user/{uid}");
            script += &format!(" && mkdir -p -m 755 {runtime} && chown {uid}:{uid} {runtime}");
        }
        script += " && exec \"$@\"";
        let words = unshare.split(' ').map(str::to_owned);
        words.chain([script, "sh".to_owned()]).collect()
    }

    fn make_etc(&self) {
        let etc = self.etc("");
        fs::create_dir(&etc).unwrap();
        let mut copy = Command::new("cp");
        copy.args(["-a", "/etc/."]).arg(&etc);
        assert_eq!(run(copy, b"").code, 0);
        let add = |name: &str, lines: String| {
            let before = fs::read_to_string(self.etc(name)).unwrap_or_default();
            fs::write(self.etc(name), before + &lines).unwrap();
        };
        add("group", format!("{}:x:{}:\n", GROUP.0, GROUP.1));
        for (number, user) in [WEB, DB].into_iter().enumerate() {
            let HostUser { name, uid } = user;
            let home = self.home(user);
            add("passwd", format!("{name}:x:{uid}:{uid}::{}:/bin/sh\n", home.display()));
            add("group", format!("{name}:x:{uid}:\n"));
            let ids = format!("{name}:{}:65536\n", 10_000_000 + number * 65_536);
            add("subuid", ids.clone());
            add("subgid", ids);
        }
    }

    fn make_home(&self, user: HostUser) {
        let home = self.home(user);
        let containers = home.join(".config/containers");
        fs::create_dir_all(&containers).unwrap();
        fs::write(containers.join("storage.conf"), "[storage]\ndriver = \"vfs\"\n").unwrap();
        let containers_conf = "[containers]\ndefault_ulimits = []\nnetns = \"none\"\nlog_driver = \"none\"\n\
                               [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\
                               runtime = \"runc\"\nlock_type = \"file\"\n";
        fs::write(containers.join("containers.conf"), containers_conf).unwrap();
        let mut give = Command::new("chown");
        give.args(["-R", &format!("{0}:{0}", user.uid)]).arg(&home);
        assert_eq!(run(give, b"").code, 0);
    }
}
