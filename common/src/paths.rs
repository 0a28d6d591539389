//! The paths of psi's files, for the whole system and for one user.

use std::path::{Path, PathBuf};

/// The socket of the system's psid for users.
const USERS_SOCKET: &str = "/run/psi/users.sock";

/// The podman that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Root's podman.
    System,
    /// One user's rootless podman.
    User {
        /// The user's uid in the initial user namespace.
        uid: u32,
    },
}

/// The paths of one scope, with the overrides of the environment applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The config file; `PSI_CONFIG` overrides it.
    pub config: PathBuf,
    /// The state directory; `PSI_STATE_DIR` overrides it.
    pub state: PathBuf,
    /// The daemon's socket; `PSI_SOCKET` overrides it.
    pub socket: PathBuf,
    /// The socket at which the system's psid serves the users that workloads name, for a user without a psid.
    pub users_socket: Option<PathBuf>,
    /// psid's directory in RAM, for state that outlives a restart but not a boot: the boot's mark, refused
    /// logins; `PSI_RUN_DIR` overrides it.
    pub run: PathBuf,
    /// Podman's drop-in that names psi as the secret driver.
    pub podman_drop_in: PathBuf,
    /// The directory of the quadlet units.
    pub quadlets: PathBuf,
}

impl Scope {
    /// The scope of this process.
    ///
    /// Rootless podman runs the driver as uid 0 of its user namespace, so the uid alone is not enough: podman's
    /// own variable decides, or a uid map that is not the identity.
    pub fn of_this_process() -> Self {
        let uid = nix::unistd::getuid().as_raw();
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let rootless = variable("_CONTAINERS_ROOTLESS_UID").and_then(|uid| uid.parse().ok());
        Self::detect(uid, rootless, &map, |uid| runtime_dir(uid).exists())
    }

    fn detect(
        uid: u32,
        rootless: Option<u32>,
        map: &str,
        has_session: impl Fn(u32) -> bool,
    ) -> Self {
        if let Some(uid) = rootless.filter(|uid| *uid != 0) {
            return Self::User { uid };
        }
        match outer_uid(uid, map) {
            // Root of a user namespace: rootless podman's if that user has a session here; otherwise the
            // root of a system container, whose podman is the system's.
            outer if uid == 0 && (outer == 0 || !has_session(outer)) => Self::System,
            outer => Self::User { uid: outer },
        }
    }
}

impl Paths {
    /// The paths of `scope`.
    pub fn new(scope: Scope) -> Self {
        let mut paths = match scope {
            Scope::System => Self::system(),
            Scope::User { uid } => Self::user(uid),
        };
        if variable("PSI_SOCKET").is_some() {
            paths.users_socket = None;
        }
        for (name, path) in [
            ("PSI_CONFIG", &mut paths.config),
            ("PSI_STATE_DIR", &mut paths.state),
            ("PSI_SOCKET", &mut paths.socket),
            ("PSI_RUN_DIR", &mut paths.run),
        ] {
            if let Some(given) = variable(name) {
                *path = PathBuf::from(given);
            }
        }
        paths
    }

    /// Whether a client calls the system's psid for a user: the user has no psid, and the system's serves users.
    pub fn uses_systems_psid(&self) -> bool {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        self.users_socket.as_deref().is_some_and(is_there) && !is_there(&self.socket)
    }

    /// The socket for a client.
    pub fn clients_socket(&self) -> &Path {
        match &self.users_socket {
            Some(users) if self.uses_systems_psid() => users,
            _ => &self.socket,
        }
    }

    /// The sealed key of the tpm backend, beside the config.
    pub fn sealed_key(&self) -> PathBuf {
        self.config.with_file_name("cache.key")
    }

    /// The encrypted cache.
    pub fn cache_file(&self) -> PathBuf {
        self.state.join("cache.enc")
    }

    fn system() -> Self {
        Self {
            config: "/etc/psi/config.toml".into(),
            state: "/var/lib/psi".into(),
            socket: "/run/psi/psid.sock".into(),
            users_socket: None,
            run: "/run/psid".into(),
            podman_drop_in: "/etc/containers/containers.conf.d/50-psi.conf".into(),
            quadlets: "/etc/containers/systemd".into(),
        }
    }

    fn user(uid: u32) -> Self {
        let home = variable("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let base = |name, default: &str| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(default))
        };
        let config = base("XDG_CONFIG_HOME", ".config");
        let runtime = variable("XDG_RUNTIME_DIR").map_or_else(|| runtime_dir(uid), PathBuf::from);
        Self {
            config: config.join("psi/config.toml"),
            state: base("XDG_STATE_HOME", ".local/state").join("psi"),
            socket: runtime.join("psi/psid.sock"),
            users_socket: Some(USERS_SOCKET.into()),
            run: runtime.join("psid"),
            podman_drop_in: config.join("containers/containers.conf.d/50-psi.conf"),
            quadlets: config.join("containers/systemd"),
        }
    }
}

/// The directory of a user's sockets, as systemd creates it. Healthcheck timers run with only `PATH` set, so
/// XDG_RUNTIME_DIR may be missing.
fn runtime_dir(uid: u32) -> PathBuf {
    Path::new("/run/user").join(uid.to_string())
}

/// The uid in the parent namespace, from the lines `inside outside count` of `/proc/self/uid_map`.
fn outer_uid(uid: u32, map: &str) -> u32 {
    map.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            let (inside, outside, count) =
                (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
            let offset = uid.checked_sub(inside)?;
            if offset < count { outside.checked_add(offset) } else { None }
        })
        .next()
        .unwrap_or(uid)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment for paths")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: &str = "         0          0 4294967295\n";
    const ROOTLESS: &str = "         0       1234          1\n         1     100000      65536\n";

    #[test]
    fn scope_follows_podman_and_the_uid_map() {
        let detect = |uid, rootless, map| Scope::detect(uid, rootless, map, |uid| uid == 1234);
        assert_eq!(detect(0, None, IDENTITY), Scope::System);
        assert_eq!(detect(1000, None, IDENTITY), Scope::User { uid: 1000 });
        assert_eq!(detect(0, Some(1234), ROOTLESS), Scope::User { uid: 1234 });
        assert_eq!(detect(0, None, ROOTLESS), Scope::User { uid: 1234 });
        assert_eq!(detect(0, Some(0), IDENTITY), Scope::System);
        let system_container = "0 100000 65536\n";
        assert_eq!(detect(0, None, system_container), Scope::System);
    }

    #[test]
    fn user_without_a_psid_calls_the_systems() {
        let directory = std::env::temp_dir().join(format!("psi-paths-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let [own, users] = ["psid.sock", "users.sock"].map(|name| directory.join(name));
        let given =
            Paths { socket: own.clone(), users_socket: Some(users.clone()), ..Paths::user(1234) };
        assert_eq!(given.clients_socket(), own, "the message names the user's own");
        std::fs::write(&users, "").unwrap();
        assert_eq!(given.clients_socket(), users);
        assert!(given.uses_systems_psid());
        std::fs::write(&own, "").unwrap();
        assert_eq!(given.clients_socket(), own);
        assert!(Paths::system().users_socket.is_none());
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn uid_map_is_read_by_range() {
        assert_eq!(outer_uid(0, ROOTLESS), 1234);
        assert_eq!(outer_uid(5, ROOTLESS), 100_004);
        assert_eq!(outer_uid(7, ""), 7);
        assert_eq!(outer_uid(u32::MAX, "0 4294967295 4294967295\n"), u32::MAX);
    }
}
