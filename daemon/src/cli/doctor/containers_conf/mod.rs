//! Findings about podman's config: podman merges containers.conf key by key from many files, and any of them may override
//! psi's drop-in (containers.conf(5), common/pkg/config/new.go).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use psi_common::Finding;
use toml::{Table, Value};

/// The main file of a directory.
const MAIN: &str = "containers.conf";

/// The files of podman's config.
pub struct Places {
    /// Podman's version, which decides the files and their order.
    pub podman: PodmanVersion,
    /// The uid of podman's user: some drop-ins are for root, for all other users, or for one user.
    pub uid: u32,
    /// The user's `~/.config/containers`; before podman 5, root has none.
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

impl FromStr for PodmanVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = text.split(['.', '-', '+', '~']).map(|number| number.parse().ok());
        let major = numbers.next().flatten().ok_or_else(|| format!("{text:?} is not a version"))?;
        let mut next = || numbers.next().flatten().unwrap_or(0);
        Ok(Self(major, next(), next()))
    }
}

/// The four commands of the shell driver in psi's drop-in.
pub type Commands = BTreeMap<String, String>;

/// The merged `[secrets]`, each value with the file that set it.
#[derive(Default)]
struct Secrets {
    driver: Option<(String, PathBuf)>,
    options: BTreeMap<String, (String, PathBuf)>,
}

/// Checks the config that podman would use.
pub fn check(places: &Places, commands: &Commands) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut secrets = Secrets::default();
    for path in places.files() {
        let read = if places.must_exist(&path) && !path.exists() {
            Err("it does not exist".to_owned())
        } else {
            secrets.read(&path)
        };
        if let Err(why) = read {
            findings.push(Finding::error(
                format!("podman does not start with {}: {why}", path.display()),
                format!("correct or remove {}", path.display()),
            ));
        }
    }
    findings.extend(secrets.check(commands));
    let findings = findings.into_iter().map(|finding| finding.of("containers-conf"));
    let service = broken_service(places.podman).map(|finding| finding.of("podman-defect"));
    findings.chain(service).collect()
}

/// The finding about a defect of `podman system service` (podman pull request 28408).
fn broken_service(podman: PodmanVersion) -> Option<Finding> {
    (podman < PodmanVersion(5, 8, 2)).then(|| {
        Finding::note(
            format!(
                "podman {podman} has a defect: once `podman system service` has created a secret with the file driver, it \
                 refuses psi's new secrets, `invalid shell driver option`"
            ),
            "`systemctl restart podman.service` (`--user` for a user's) ends it; podman 5.8.2 fixes it",
        )
    })
}

impl fmt::Display for PodmanVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Places {
    /// The files, in the order in which later ones win.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = match &self.only {
            Some(only) => vec![only.clone()],
            None => {
                if self.podman < PodmanVersion(6, 0, 0) {
                    self.before_6()
                } else {
                    self.since_6()
                }
            }
        };
        files.extend(self.last.clone());
        files
    }

    /// Whether podman refuses to start without the file, which a variable names.
    fn must_exist(&self, path: &Path) -> bool {
        let is_last = self.last.as_deref() == Some(path) && self.podman >= PodmanVersion(6, 0, 0);
        is_last || self.only.as_deref() == Some(path)
    }

    fn vendor(&self) -> PathBuf {
        self.root.join("usr/share/containers")
    }

    fn admin(&self) -> PathBuf {
        self.root.join("etc/containers")
    }

    /// The files before podman 6: for each directory its main file, then its drop-ins; `/usr/share` has no drop-ins. Since
    /// 5.7 there are drop-ins for other users than root.
    fn before_6(&self) -> Vec<PathBuf> {
        let (admin, follows_links) = (self.admin(), true);
        let mut files = vec![self.vendor().join(MAIN), admin.join(MAIN)];
        let mut add = |file: Option<PathBuf>, directory: PathBuf| {
            files.extend(file);
            files.extend(drop_ins(&directory, follows_links).into_values());
        };
        add(None, admin.join("containers.conf.d"));
        if self.uid != 0 && self.podman >= PodmanVersion(5, 7, 0) {
            let rootless = admin.join("containers.rootless.conf.d");
            add(Some(admin.join("containers.rootless.conf")), rootless.clone());
            add(None, rootless.join(self.uid.to_string()));
        }
        if let Some(user) = &self.user {
            add(Some(user.join(MAIN)), user.join("containers.conf.d"));
        }
        files
    }

    /// The files since podman 6: one main file, then the drop-ins of all directories sorted by name; of two drop-ins with
    /// one name, that of the later directory (storage/pkg/configfile/parse.go). Symbolic links are not read.
    fn since_6(&self) -> Vec<PathBuf> {
        let (vendor, admin) = (self.vendor(), self.admin());
        let mains = self.user.iter().chain([&admin, &vendor]).map(|directory| directory.join(MAIN));
        let mut files: Vec<_> = mains.filter(|path| path.exists()).take(1).collect();
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
        let pooled: BTreeMap<_, _> =
            directories.iter().flat_map(|directory| drop_ins(directory, false)).collect();
        files.extend(pooled.into_values());
        files
    }
}

fn drop_ins(directory: &Path, follows_links: bool) -> BTreeMap<OsString, PathBuf> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = files.filter(|file| {
        file.file_type().is_ok_and(|kind| kind.is_file() || (follows_links && kind.is_symlink()))
    });
    let named = files.map(|file| (file.file_name(), file.path()));
    named.filter(|(_, path)| path.extension().is_some_and(|end| end == "conf")).collect()
}

/// The values of a key. Podman's parser ignores its case, except in `opts`, which is a map.
fn members<'a>(table: &'a Table, name: &str) -> impl Iterator<Item = &'a Value> {
    table.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

impl Secrets {
    fn read(&mut self, path: &Path) -> Result<(), String> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            text => text.map_err(|error| error.to_string())?,
        };
        let table: Table = toml::from_str(&text)
            .map_err(|error| format!("it is not TOML: {}", error.message()))?;
        for secrets in members(&table, "secrets").filter_map(Value::as_table) {
            for driver in members(secrets, "driver").filter_map(Value::as_str) {
                self.driver = Some((driver.to_owned(), path.to_owned()));
            }
            for (key, value) in members(secrets, "opts").filter_map(Value::as_table).flatten() {
                let value = value.as_str().unwrap_or_default().to_owned();
                self.options.insert(key.clone(), (value, path.to_owned()));
            }
        }
        Ok(())
    }

    fn check(&self, commands: &Commands) -> Vec<Finding> {
        let install = "`psictl install` writes podman's drop-in";
        let (driver, by) = match &self.driver {
            Some((driver, path)) => (driver.as_str(), format!(", by {}", path.display())),
            None => ("file", String::new()),
        };
        if driver != "shell" {
            let what = format!(
                "`podman secret create` stores new secrets with podman's {driver} driver{by}, in plaintext"
            );
            let remedy = match &self.driver {
                Some((_, path)) => {
                    format!("remove `driver` of [secrets] from {}; {install}", path.display())
                }
                None => install.into(),
            };
            return vec![Finding::warning(what, remedy)];
        }
        let mut findings = Vec::new();
        for (key, (value, path)) in &self.options {
            match commands.get(key) {
                Some(wanted) if wanted == value => {}
                Some(_) => findings.push(Finding::error(
                    format!("{} sets another {key} command than psi's: new secrets break", path.display()),
                    format!("remove `{key}` of [secrets.opts] from it; {install}"),
                )),
                None => findings.push(Finding::error(
                    format!(
                        "{} sets [secrets.opts] {key}: podman refuses each new secret, `invalid shell driver option`",
                        path.display()
                    ),
                    format!("remove `{key}` of [secrets.opts] from {}", path.display()),
                )),
            }
        }
        let missing = commands.keys().filter(|key| !self.options.contains_key(*key));
        findings.extend(missing.map(|key| {
            Finding::error(
                format!("podman's config has no {key} command: podman creates no new secret"),
                install,
            )
        }));
        findings
    }
}

#[cfg(test)]
mod tests;
