//! A podman and psid, asked about the same files.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

use serde_json::Value;
use tempfile::TempDir;

use psi_harness::{program, repository, target_directory};

/// The user who is not root.
pub(super) const USER: u32 = 1_000;
/// The drop-in of psi, on a host whose psi-driver is `/psi/psi-driver`.
pub(super) const PSI: &str = "[secrets]\ndriver = \"shell\"\n[secrets.opts]\nlookup = \"exec /psi/psi-driver lookup\"\n\
                              store = \"exec /psi/psi-driver store\"\ndelete = \"exec /psi/psi-driver delete\"\n\
                              list = \"exec /psi/psi-driver list\"\n";
/// What the stable releases have, which must be there.
const REQUIRED: [&str; 2] = ["bookworm", "trixie"];

/// One of the podmans that were unpacked.
pub(crate) struct UnpackedPodman {
    tree: PathBuf,
    pub(crate) version: String,
}

impl UnpackedPodman {
    /// All that are at hand.
    pub(crate) fn all() -> Vec<Self> {
        let trees = target_directory().join("tools/podmans");
        let mut releases: Vec<String> = fs::read_dir(&trees)
            .map(|all| all.map(|tree| tree.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        releases.sort();
        for required in REQUIRED {
            let is_there = releases.iter().any(|release| release == required);
            assert!(is_there, "no podman of {required}: run tests/deps.sh");
        }
        releases.iter().map(|release| Self::of(trees.join(release))).collect()
    }

    fn of(tree: PathBuf) -> Self {
        let layout = Layout::default();
        let root = layout.create();
        let mut podman = Self { tree, version: "0".into() };
        let said = podman.enter(root.path(), 0, &layout, "podman --version");
        let version = said.trim().strip_prefix("podman version ");
        podman.version = version.unwrap_or_else(|| panic!("{said}")).to_owned();
        podman
    }

    pub(crate) fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse::<u32>().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
    }

    /// What becomes of a new secret of this user, by podman and by psid.
    pub(super) fn ask(&self, uid: u32, layout: &Layout) -> (Answer, Answer) {
        let root = layout.create();
        let ask = format!(
            "echo value | podman secret create probe - >/out/podman 2>&1 || echo failed >>/out/podman
             /psi/psid --config /psi/none doctor --podman {} --program /psi/psi-driver >/out/psid 2>&1",
            self.version
        );
        self.enter(root.path(), uid, layout, &ask);
        let read = |name: &str| fs::read_to_string(root.path().join("out").join(name)).unwrap();
        (of_podman(root.path(), &read("podman")), of_psid(&read("psid")))
    }

    /// Runs a script as root on such a host; returns what it wrote into `/out`.
    pub(crate) fn run(&self, layout: &Layout, script: &str) -> BTreeMap<String, Vec<u8>> {
        let root = layout.create();
        self.enter(root.path(), 0, layout, script);
        let files = fs::read_dir(root.path().join("out")).unwrap().map(|file| file.unwrap());
        let file_of = |file: fs::DirEntry| {
            (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())
        };
        files.map(file_of).collect()
    }

    fn enter(&self, root: &Path, uid: u32, layout: &Layout, script: &str) -> String {
        let mut enter = Command::new("unshare");
        enter.args(["--mount", "--pid", "--fork", "--kill-child"]);
        enter.arg(repository().join("tests/podman/containers_conf/enter"));
        enter.arg(&self.tree).arg(root).arg(program("psid"));
        enter.args([&uid.to_string(), script]);
        enter.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        enter.env("HOME", home(uid)).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
        enter.envs(&layout.environment);
        let output = enter.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {}: {stderr}", self.version);
        String::from_utf8(output.stdout).unwrap()
    }
}

fn home(uid: u32) -> &'static str {
    if uid == 0 { "/root" } else { "/home/user" }
}

/// The files of a host, and podman's variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    /// `~` is the home directory of both users, and `/usr/share/containers` the vendor's.
    pub(super) files: BTreeMap<String, Node>,
    pub(super) environment: BTreeMap<&'static str, String>,
}

/// A file of a layout.
#[derive(Clone)]
pub(crate) enum Node {
    Text(Vec<u8>),
    Link(&'static str),
    Directory,
}

impl Layout {
    /// A layout with these files.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        files.iter().fold(Self::default(), |layout, (path, text)| layout.with(path, text))
    }

    pub(crate) fn with(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.with_node(path, Node::Text(text.as_ref().to_vec()))
    }

    pub(super) fn with_node(mut self, path: &str, node: Node) -> Self {
        self.files.insert(path.to_owned(), node);
        self
    }

    pub(crate) fn with_variable(mut self, name: &'static str, value: &str) -> Self {
        self.environment.insert(name, value.to_owned());
        self
    }

    /// The root of the host.
    fn create(&self) -> TempDir {
        let root = tempfile::Builder::new().prefix("podmans-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let create = |path: &str| fs::create_dir_all(root.path().join(path)).unwrap();
        let all =
            "usr proc dev sys/fs/cgroup host share psi out tmp run var/lib etc root home/user xdg";
        all.split(' ').for_each(create);
        for directory in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{directory}"), root.path().join(directory)).unwrap();
        }
        let write = |path: &str, text: &[u8]| fs::write(root.path().join(path), text).unwrap();
        write("etc/passwd", b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n");
        write("etc/subuid", b"user:100000:65536\n");
        write("etc/subgid", b"user:100000:65536\n");
        write("psi/psid", b"");
        write("psi/psi-driver", b"#!/bin/sh\nexit 0\n");
        write("psi/shell", PSI.as_bytes());
        write("psi/file", b"[secrets]\ndriver = \"file\"\n");
        let mode = |path: &str, mode| {
            fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("psi/psi-driver", 0o755);
        ["tmp", "out", "run"].into_iter().for_each(|path| mode(path, 0o1777));
        for (path, node) in &self.files {
            let path = path.trim_start_matches('/');
            let vendor = path.strip_prefix("usr/share/containers/");
            let vendor = vendor.map(|path| format!("share/{path}"));
            let path = vendor.unwrap_or_else(|| path.to_owned());
            match path.strip_prefix("~/") {
                Some(path) => ["root", "home/user"].into_iter().for_each(|home| {
                    node.create(&root.path().join(home).join(path));
                }),
                None => node.create(&root.path().join(path)),
            }
        }
        ["home/user", "xdg"].into_iter().for_each(|path| give(&root.path().join(path)));
        root
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{:?}", String::from_utf8_lossy(text)),
            Self::Link(target) => write!(f, "-> {target}"),
            Self::Directory => f.write_str("directory"),
        }
    }
}

impl Node {
    fn create(&self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match self {
            Self::Text(text) => fs::write(path, text).unwrap(),
            Self::Link(target) => symlink(target, path).unwrap(),
            Self::Directory => fs::create_dir_all(path).unwrap(),
        }
    }
}

/// Gives a directory and what is in it to the user.
fn give(path: &Path) {
    lchown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

/// What becomes of a new secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is created by the shell driver; the commands that are not psi's, with the file that sets each.
    Shell(BTreeMap<String, String>),
    /// It is created by another driver.
    Other(String),
    /// It is not created.
    Refused(String),
}

impl Answer {
    /// The answer without the text of a message.
    pub(super) fn kind(&self) -> Self {
        match self {
            Self::Refused(_) => Self::Refused(String::new()),
            other => other.clone(),
        }
    }

    pub(super) fn psi() -> Self {
        Self::Shell(BTreeMap::new())
    }
}

/// Podman's record of the secret, or its message. A command of the layouts that is not psi's ends with its file.
fn of_podman(root: &Path, said: &str) -> Answer {
    let records = ["var/lib/containers/storage", "home/user/.local/share/containers/storage"];
    let records = records.map(|storage| root.join(storage).join("secrets/secrets.json"));
    let Some(record) = records.iter().find_map(|path| fs::read(path).ok()) else {
        assert!(said.contains("failed"), "no record of a secret, but: {said}");
        return Answer::Refused(said.to_owned());
    };
    let record: Value = serde_json::from_slice(&record).unwrap();
    let Some(secret) = record["secrets"].as_object().unwrap().values().next() else {
        return Answer::Refused(said.to_owned());
    };
    match secret["driver"].as_str().unwrap() {
        "shell" => {
            let options = secret["driverOptions"].as_object().unwrap();
            let options = options.iter().map(|(key, value)| (key, value.as_str().unwrap()));
            let of_others = options.filter_map(|(key, value)| {
                let (_, file) = value.split_once('#')?;
                Some((key.clone(), file.to_owned()))
            });
            Answer::Shell(of_others.collect())
        }
        driver => Answer::Other(driver.to_owned()),
    }
}

/// The same by the findings of `psid doctor`.
fn of_psid(said: &str) -> Answer {
    let findings: Value = serde_json::from_str(said).unwrap_or_else(|_| panic!("{said}"));
    let findings = findings.as_array().unwrap().iter();
    let findings = findings.filter(|finding| finding["cause"] == "containers-conf");
    let messages: Vec<&str> = findings.map(|finding| finding["what"].as_str().unwrap()).collect();
    let refuses =
        ["podman does not start", "refuses each new secret", "podman creates no new secret"];
    if messages.iter().any(|message| refuses.iter().any(|words| message.contains(words))) {
        return Answer::Refused(messages.join("\n"));
    }
    let driver = messages.iter().find_map(|message| {
        let (_, rest) = message.split_once("stores new secrets with podman's ")?;
        rest.split(' ').next()
    });
    if let Some(driver) = driver {
        return Answer::Other(driver.to_owned());
    }
    let others = messages.iter().map(|message| {
        let (file, rest) = message.split_once(" sets another ").expect("a known message");
        let file = file.replace("/root/", "~/").replace("/home/user/", "~/");
        (rest.split(' ').next().unwrap().to_owned(), file)
    });
    Answer::Shell(others.collect())
}

/// Asserts that podman and psid say the same, and returns what.
#[track_caller]
pub(super) fn assert_agreement(podman: &UnpackedPodman, uid: u32, layout: &Layout) -> Answer {
    let (podman_s, psid_s) = podman.ask(uid, layout);
    assert_eq!(
        psid_s.kind(),
        podman_s.kind(),
        "podman {} of uid {uid}: psid (left) is wrong about {layout:#?}\npodman: {podman_s:?}\npsid: {psid_s:?}",
        podman.version
    );
    podman_s
}

/// The uids of both users.
pub(super) const UIDS: [u32; 2] = [0, USER];
