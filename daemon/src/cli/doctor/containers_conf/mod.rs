//! What podman's own config makes of psi's drop-in: containers.conf is merged from many files, key by key, and
//! one of them can break the driver (containers.conf(5), common/pkg/config/new.go).

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

/// Where podman looks.
pub struct Places {
    /// Podman's version: the files, and their order, depend on it.
    pub podman: PodmanVersion,
    /// The user who runs podman: there are drop-ins for root alone, for all others, and for one.
    pub uid: u32,
    /// The user's `~/.config/containers`; podman before 5 has none for root.
    pub user: Option<PathBuf>,
    /// `CONTAINERS_CONF`, which is read in place of all others.
    pub only: Option<PathBuf>,
    /// `CONTAINERS_CONF_OVERRIDE`, which is read last.
    pub last: Option<PathBuf>,
    /// The root of the file system.
    pub root: PathBuf,
}

/// Major, minor and patch level of a podman.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodmanVersion(pub u32, pub u32, pub u32);

impl FromStr for PodmanVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = text.split(['.', '-', '+', '~']).map(|number| number.parse().ok());
        let major = numbers.next().flatten().ok_or_else(|| format!("{text:?} is no version"))?;
        let mut next = || numbers.next().flatten().unwrap_or(0);
        Ok(Self(major, next(), next()))
    }
}

/// The four commands of the shell driver, as psi wants them.
pub type Commands = BTreeMap<String, String>;

/// What `[secrets]` comes to, and which file said so.
#[derive(Default)]
struct Secrets {
    driver: Option<(String, PathBuf)>,
    options: BTreeMap<String, (String, PathBuf)>,
}

/// Judges the config that podman would use.
pub fn judge(places: &Places, commands: &Commands) -> Vec<Finding> {
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
                format!("{}: {why}: podman does not start with it", path.display()),
                format!("correct or remove {}", path.display()),
            ));
        }
    }
    findings.extend(secrets.judge(commands));
    let findings = findings.into_iter().map(|finding| finding.of("containers-conf"));
    let service = broken_service(places.podman).map(|finding| finding.of("podman-defect"));
    findings.chain(service).collect()
}

/// What one create by the file driver leaves in a process of `podman system service` (podman pull request 28408).
fn broken_service(podman: PodmanVersion) -> Option<Finding> {
    (podman < PodmanVersion(5, 8, 2)).then(|| {
        Finding::note(
            format!(
                "podman {podman} has a defect: after one secret that is created with `--driver file` through podman's \
                 API, that `podman system service` refuses psi's new secrets, `invalid shell driver option`"
            ),
            "`systemctl restart podman.service` (with --user, the user's) ends that; podman 5.8.2 has it corrected",
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
                    self.files_of_podman_6()
                }
            }
        };
        files.extend(self.last.clone());
        files
    }

    /// Whether podman refuses to start without a file that a variable names.
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

    /// Directory by directory: its file, then its drop-ins; `/usr/share` has none. From 5.7 on, there are more
    /// for users who are not root.
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

    /// One file, then the drop-ins of all directories by their names; of two with one name, the later
    /// directory's (storage/pkg/configfile/parse.go). A drop-in that is a link is not read.
    fn files_of_podman_6(&self) -> Vec<PathBuf> {
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

/// The members of a name: podman's parser takes any case of it, but in `opts`, which is a map.
fn members<'a>(table: &'a Table, name: &str) -> impl Iterator<Item = &'a Value> {
    table.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

impl Secrets {
    fn read(&mut self, path: &Path) -> Result<(), String> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            text => text.map_err(|error| error.to_string())?,
        };
        let table: Table =
            toml::from_str(&text).map_err(|error| format!("it is no TOML: {}", error.message()))?;
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

    fn judge(&self, commands: &Commands) -> Vec<Finding> {
        let install = "`psictl install` writes podman's drop-in";
        let (driver, by) = match &self.driver {
            Some((driver, path)) => (driver.as_str(), format!(", by {}", path.display())),
            None => ("file", String::new()),
        };
        if driver != "shell" {
            let what = format!(
                "`podman secret create` keeps new secrets in podman's {driver} driver{by}, in clear"
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
                    format!("{} gives podman another {key} command than psi's: new secrets break", path.display()),
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
                format!("podman's config has no {key} command: it makes no new secret"),
                install,
            )
        }));
        findings
    }
}

#[cfg(test)]
mod tests;
