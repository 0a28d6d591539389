//! A podman with its own store, config and image, which are removed with the value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::unistd::geteuid;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Instance, LIMIT, Outcome, program, run};

/// The one image: busybox, under the names of the commands that the tests call.
pub const IMAGE: &str = "localhost/bb:1";

/// The installed podman, with psi as its secret driver.
pub struct Podman {
    directory: TempDir,
    environment: BTreeMap<&'static str, OsString>,
}

impl Podman {
    /// A podman whose driver finds the psid of `instance`.
    pub fn of(instance: &Instance) -> Self {
        assert!(geteuid().is_root(), "containers take root: run the tests as root");
        let directory = tempfile::Builder::new().prefix("pod-").tempdir_in("/tmp").unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("net")).unwrap();
        fs::write(path("containers.conf"), containers_conf(directory.path(), instance)).unwrap();
        fs::write(path("storage.conf"), storage_conf(directory.path())).unwrap();
        // Podman passes its whole environment on to the driver.
        let environment = BTreeMap::from([
            ("PATH", std::env::var_os("PATH").unwrap()),
            ("HOME", directory.path().into()),
            ("CONTAINERS_CONF", path("containers.conf").into()),
            ("CONTAINERS_STORAGE_CONF", path("storage.conf").into()),
            ("PSI_SOCKET", instance.socket().into()),
            ("PSI_RUN_DIR", instance.run_directory().into()),
            ("PSI_CONFIG", instance.config().into()),
        ]);
        let podman = Self { directory, environment };
        podman.import_image();
        podman
    }

    /// The variables by which other programs find this podman's store.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &OsString)> {
        self.environment.iter().map(|(name, value)| (*name, value))
    }

    /// The directory of podman's records of secrets.
    pub fn secrets_directory(&self) -> PathBuf {
        self.directory.path().join("root/secrets")
    }

    /// A command that is not run yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.args(args).env_clear().envs(&self.environment).current_dir("/");
        command
    }

    /// Runs the command until it ends.
    #[track_caller]
    pub fn run(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Outcome {
        run(self.command(args), stdin.as_ref())
    }

    /// Runs the command, which must succeed; returns its stdout without the last newline.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let Outcome { code, stdout, stderr } = self.run(args, b"");
        assert_eq!(code, 0, "podman {args:?}: {stderr}");
        String::from_utf8(stdout).unwrap().trim_end_matches('\n').to_owned()
    }

    /// Runs the command, which must fail; returns its stderr.
    #[track_caller]
    pub fn fails(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> String {
        let Outcome { code, stdout, stderr } = self.run(args, stdin);
        assert_ne!(code, 0, "podman {args:?} succeeded: {}", String::from_utf8_lossy(&stdout));
        stderr
    }

    /// `podman secret create`; returns the id. psi must not add to podman's output.
    #[track_caller]
    pub fn create(&self, name: &str, data: impl AsRef<[u8]>) -> String {
        let Outcome { code, stdout, stderr } = self.run(&["secret", "create", name, "-"], data);
        assert_eq!((code, stderr.as_str()), (0, ""), "podman secret create {name}");
        let stdout = String::from_utf8(stdout).unwrap();
        let id = stdout.strip_suffix('\n').unwrap_or_default();
        let is_id = id.len() == 25 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_id, "podman secret create {name} printed {stdout:?}");
        id.to_owned()
    }

    /// Runs `script` in a new container; returns the files in `/out`, by name. Files are
    /// byte-exact, unlike the container's stdout.
    #[track_caller]
    pub fn container(&self, options: &[&str], script: &str) -> BTreeMap<String, Vec<u8>> {
        let out = tempfile::tempdir_in(self.directory.path()).unwrap();
        let volume = format!("{}:/out", out.path().display());
        let mut args = vec!["run", "--rm", "--volume", &volume];
        args.extend(options);
        args.extend([IMAGE, "sh", "-euc", script]);
        self.ok(&args);
        let files = fs::read_dir(out.path()).unwrap().map(|file| file.unwrap());
        files
            .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
            .collect()
    }

    /// The commands that podman copied into a secret, by name.
    #[track_caller]
    pub fn driver_options(&self, name: &str) -> BTreeMap<String, String> {
        let inspected: Value =
            serde_json::from_str(&self.ok(&["secret", "inspect", name])).unwrap();
        let driver = &inspected[0]["Spec"]["Driver"];
        assert_eq!(driver["Name"], "shell", "{inspected}");
        serde_json::from_value(driver["Options"].clone()).unwrap()
    }

    /// Runs a driver command as podman does: by sh, with podman's environment and the id.
    #[track_caller]
    pub fn as_podman(&self, command: &str, id: &str, stdin: impl AsRef<[u8]>) -> Outcome {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).env_clear().envs(&self.environment).env("SECRET_ID", id);
        run(shell, stdin.as_ref())
    }

    /// Whether a command of the installed podman has an option.
    #[track_caller]
    pub fn knows(&self, command: &[&str], option: &str) -> bool {
        let help = self.ok(&[command, &["--help"]].concat());
        help.split_whitespace().any(|word| word.trim_end_matches(',') == option)
    }

    /// The image as a tar of its files.
    pub fn image() -> Vec<u8> {
        let root = tempfile::Builder::new().prefix("bb-").tempdir_in("/tmp").unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir(root.join("out")).unwrap();
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
        let busybox = busybox.expect("no busybox: install busybox-static");
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "cp", "sleep", "test"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(root).args(["-cf", "-", "."]);
        let tar = run(tar, b"");
        assert_eq!(tar.code, 0, "{}", tar.stderr);
        tar.stdout
    }

    /// Whether the installed podman is older than a version.
    pub fn is_before(&self, major: u32, minor: u32) -> bool {
        let said = self.ok(&["--version"]);
        let version = said.rsplit(' ').next().unwrap();
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap()) < (major, minor)
    }

    /// Makes the image that of a pod's first container, which the distribution may not have.
    pub fn infra_image(&self) {
        let path = self.directory.path().join("containers.conf");
        let text = fs::read_to_string(&path).unwrap();
        let engine = format!("[engine]\ninfra_image = \"{IMAGE}\"");
        fs::write(&path, text.replacen("[engine]", &engine, 1)).unwrap();
    }

    fn import_image(&self) {
        let tar = Self::image();
        let sleep = "CMD [\"/bin/sleep\", \"1000\"]";
        let import = self.run(&["import", "-q", "--change", sleep, "-", IMAGE], &tar);
        assert_eq!(import.code, 0, "podman import: {}", import.stderr);
        // A busybox that needs libraries would fail later with an unclear message.
        let first = self.run(&["run", "--rm", IMAGE, "sh", "-c", "exit 0"], b"");
        assert_eq!(
            first.code, 0,
            "no container runs here (it takes runc, and busybox-static): {}",
            first.stderr
        );
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Errors here must not hide the test's own failure.
        let _ = self.command(&["rm", "-fa", "-t", "0"]).output();
        let directory = self.directory.path();
        // conmon's `podman container cleanup` of an ended container may still run.
        let start = Instant::now();
        while is_named_by_a_process(directory) && start.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(10));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let ours = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for mount in ours.filter(|path| Path::new(path).starts_with(directory)) {
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
    }
}

/// Whether a process has the directory among its arguments, as all of podman's helpers have.
fn is_named_by_a_process(directory: &Path) -> bool {
    let directory = directory.to_str().unwrap_or_default();
    fs::read_dir("/proc").into_iter().flatten().flatten().any(|process| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(directory)
    })
}

/// runc and low limits, because the host may be a container itself. The locks are files: podman's
/// other ones are in memory that all stores of the host share, and a new store resets them. psi's
/// own drop-in makes psi the driver.
fn containers_conf(directory: &Path, instance: &Instance) -> String {
    let directory = directory.display();
    let driver = program("psi-driver");
    let install = ["install", "--stdout", "--program", driver.to_str().unwrap()];
    let drop_in = instance.driver(&install).text();
    format!(
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
         netns = \"none\"\nlog_driver = \"none\"\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n\
         lock_type = \"file\"\ntmp_dir = \"{directory}/tmp\"\n\
         [network]\nnetwork_config_dir = \"{directory}/net\"\n{drop_in}"
    )
}

/// vfs mounts nothing, and the image is small.
fn storage_conf(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{directory}/root\"\nrunroot = \"{directory}/run\"\n"
    )
}

/// Locks a file as podman does: the lock is this process's, and ends when it closes the file.
pub fn lock_as_podman(file: &fs::File) {
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_SETLK(&lock)).unwrap();
}
