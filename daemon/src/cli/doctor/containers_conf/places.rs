//! The files of podman's config, in the order in which later ones win. The rules differ by podman's version
//! (common/pkg/config/new.go; since podman 6 storage/pkg/configfile/parse.go); `tests/podman/containers_conf` asks
//! podman itself.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The name of a main file.
const MAIN: &str = "containers.conf";
/// The first podman that reads `CONTAINERS_CONF_OVERRIDE`.
const OVERRIDE: PodmanVersion = PodmanVersion(4, 5, 0);
/// The first podman that skips a drop-in that is a broken link, and reads root's own config.
const TOLERANT: PodmanVersion = PodmanVersion(5, 0, 0);
/// The first podman with drop-ins for users other than root.
const ROOTLESS: PodmanVersion = PodmanVersion(5, 7, 0);
/// The first podman that sorts the drop-ins of all directories together.
const POOLED: PodmanVersion = PodmanVersion(6, 0, 0);

/// The places of podman's config.
pub struct Places {
    /// Podman's version, which decides the files and their order.
    pub podman: PodmanVersion,
    /// The uid of podman's user: some drop-ins are for root, for all other users, or for one user.
    pub uid: u32,
    /// The user's `~/.config/containers`.
    pub user: Option<PathBuf>,
    /// `CONTAINERS_CONF`, which replaces all other files.
    pub only: Option<PathBuf>,
    /// `CONTAINERS_CONF_OVERRIDE`, which is read last.
    pub last: Option<PathBuf>,
    /// The root of the file system.
    pub root: PathBuf,
}

/// A version of podman: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodmanVersion(pub u32, pub u32, pub u32);

/// A file of podman's config.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    /// Whether podman starts without it.
    pub(super) may_be_missing: bool,
}

/// The files, and the directories that podman cannot list, with which it does not start.
#[derive(Default)]
pub(super) struct ConfigFiles {
    pub(super) files: Vec<ConfigFile>,
    pub(super) unlisted: Vec<(PathBuf, io::Error)>,
}

impl FromStr for PodmanVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = text.split(['.', '-', '+', '~']).map(|number| number.parse().ok());
        let major = numbers.next().flatten().ok_or_else(|| format!("{text:?} is not a version"))?;
        let mut next = || numbers.next().flatten().unwrap_or(0);
        Ok(Self(major, next(), next()))
    }
}

impl fmt::Display for PodmanVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Places {
    /// The files, in the order in which later ones win.
    pub(super) fn files(&self) -> ConfigFiles {
        let mut found = ConfigFiles::default();
        match &self.only {
            Some(only) => found.add(only.clone(), false),
            None if self.podman < POOLED => self.by_directory(&mut found),
            None => self.pooled(&mut found),
        }
        if let Some(last) = self.last.as_ref().filter(|_| self.podman >= OVERRIDE) {
            found.add(last.clone(), (ROOTLESS..POOLED).contains(&self.podman));
        }
        found
    }

    fn vendor(&self) -> PathBuf {
        self.root.join("usr/share/containers")
    }

    fn admin(&self) -> PathBuf {
        self.root.join("etc/containers")
    }

    /// The files before podman 6: for each directory its main file, then its drop-ins; `/usr/share` has no drop-ins.
    fn by_directory(&self, found: &mut ConfigFiles) {
        let admin = self.admin();
        self.add_main(found, self.vendor().join(MAIN));
        self.add_main(found, admin.join(MAIN));
        self.add_drop_ins(found, &admin.join("containers.conf.d"));
        if self.uid != 0 && self.podman >= ROOTLESS {
            let rootless = admin.join("containers.rootless.conf.d");
            self.add_main(found, admin.join("containers.rootless.conf"));
            self.add_drop_ins(found, &rootless);
            self.add_drop_ins(found, &rootless.join(self.uid.to_string()));
        }
        let has_own = self.uid != 0 || self.podman >= TOLERANT;
        if let Some(user) = self.user.as_ref().filter(|_| has_own) {
            self.add_main(found, user.join(MAIN));
            self.add_drop_ins(found, &user.join("containers.conf.d"));
        }
    }

    /// Podman 4 skips a main file that it cannot stat, whatever the cause.
    fn add_main(&self, found: &mut ConfigFiles, path: PathBuf) {
        if self.podman >= TOLERANT || path.exists() {
            found.add(path, true);
        }
    }

    fn add_drop_ins(&self, found: &mut ConfigFiles, directory: &Path) {
        // Until 5.6, podman does not follow a directory that is a link.
        let is_walked = |path: &Path| match fs::symlink_metadata(path) {
            Ok(about) => Ok(about.is_dir()),
            Err(error) => Err(error),
        };
        let listed = match is_walked(directory) {
            Ok(false) if self.podman < ROOTLESS => return,
            Ok(_) => drop_ins(directory, |kind| !kind.is_dir()),
            Err(error) => Err(error),
        };
        for path in found.listed(directory, listed).into_values() {
            found.add(path, self.podman >= TOLERANT);
        }
    }

    /// The files since podman 6: one main file, then the drop-ins of all directories sorted by name; of two drop-ins
    /// with one name, that of the later directory.
    fn pooled(&self, found: &mut ConfigFiles) {
        let (vendor, admin) = (self.vendor(), self.admin());
        let mains = self.user.iter().chain([&admin, &vendor]).map(|directory| directory.join(MAIN));
        let is_missing = |path: &PathBuf| {
            fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        if let Some(main) = mains.into_iter().find(|path| !is_missing(path)) {
            found.add(main, true);
        }
        let mut directories = Vec::new();
        for base in [&vendor, &admin] {
            directories.push(base.join("containers.conf.d"));
            if self.uid == 0 {
                directories.push(base.join("containers.rootful.conf.d"));
            } else {
                let rootless = base.join("containers.rootless.conf.d");
                directories.extend([rootless.clone(), rootless.join(self.uid.to_string())]);
            }
        }
        directories.extend(self.user.iter().map(|user| user.join("containers.conf.d")));
        let mut pooled = BTreeMap::new();
        for directory in directories {
            let listed = drop_ins(&directory, |kind| kind.is_file() || kind.is_symlink());
            pooled.extend(found.listed(&directory, listed));
        }
        for path in pooled.into_values() {
            found.add(path, true);
        }
    }
}

impl ConfigFiles {
    fn add(&mut self, path: PathBuf, may_be_missing: bool) {
        self.files.push(ConfigFile { path, may_be_missing });
    }

    /// The drop-ins of a directory; one that does not exist has none.
    fn listed(&mut self, directory: &Path, drop_ins: io::Result<DropIns>) -> DropIns {
        match drop_ins {
            Ok(drop_ins) => return drop_ins,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.unlisted.push((directory.to_owned(), error)),
        }
        DropIns::new()
    }
}

/// Drop-ins by their names.
type DropIns = BTreeMap<OsString, PathBuf>;

fn drop_ins(directory: &Path, is_read: impl Fn(FileType) -> bool) -> io::Result<DropIns> {
    let mut drop_ins = DropIns::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_drop_in(&entry.file_name()) && is_read(entry.file_type()?) {
            drop_ins.insert(entry.file_name(), entry.path());
        }
    }
    Ok(drop_ins)
}

/// `.conf` alone is a drop-in too, so this is not [`Path::extension`].
fn is_drop_in(name: &OsStr) -> bool {
    name.as_bytes().ends_with(b".conf")
}
