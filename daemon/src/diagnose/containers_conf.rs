//! What podman's own config makes of psi's drop-in: containers.conf is merged from many files, key by key, and
//! one of them can break the driver (containers.conf(5), common/pkg/config/new.go).

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use psi_common::Finding;
use toml::{Table, Value};

/// Where podman looks.
pub struct Places {
    /// Podman's major version: 6 merges in another order.
    pub podman: u32,
    /// The user's `~/.config/containers`; podman before 5 has none for root.
    pub user: Option<PathBuf>,
    /// `CONTAINERS_CONF`, which is read in place of all others.
    pub only: Option<PathBuf>,
    /// `CONTAINERS_CONF_OVERRIDE`, which is read last.
    pub last: Option<PathBuf>,
    /// The root of the file system.
    pub root: PathBuf,
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
        if let Err(why) = secrets.read(&path) {
            findings.push(Finding::error(
                format!("{}: {why}: podman does not start with it", path.display()),
                "correct it",
            ));
        }
    }
    findings.extend(secrets.judge(commands));
    findings
}

impl Places {
    /// The files, in the order in which later ones win.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = match &self.only {
            Some(only) => vec![only.clone()],
            None => {
                let folders =
                    [self.root.join("usr/share/containers"), self.root.join("etc/containers")];
                let folders: Vec<_> = folders.into_iter().chain(self.user.clone()).collect();
                if self.podman < 6 { before_6(&folders) } else { from_6(&folders) }
            }
        };
        files.extend(self.last.clone());
        files
    }
}

/// Folder by folder: its file, then its drop-ins; `/usr/share` has none.
fn before_6(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        files.push(folder.join("containers.conf"));
        if number > 0 {
            files.extend(drop_ins(folder).into_values());
        }
    }
    files
}

/// One file, then the drop-ins of all folders by their names; of two with one name, the later folder's.
fn from_6(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mains = folders.iter().rev().map(|folder| folder.join("containers.conf"));
    let mut files: Vec<_> = mains.filter(|path| path.exists()).take(1).collect();
    let pooled: BTreeMap<_, _> = folders.iter().flat_map(|folder| drop_ins(folder)).collect();
    files.extend(pooled.into_values());
    files
}

fn drop_ins(folder: &Path) -> BTreeMap<std::ffi::OsString, PathBuf> {
    let files = fs::read_dir(folder.join("containers.conf.d")).into_iter().flatten().flatten();
    let named = files.map(|file| (file.file_name(), file.path()));
    named.filter(|(_, path)| path.extension().is_some_and(|end| end == "conf")).collect()
}

impl Secrets {
    fn read(&mut self, path: &Path) -> Result<(), String> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            text => text.map_err(|error| error.to_string())?,
        };
        let table: Table =
            toml::from_str(&text).map_err(|error| format!("it is no TOML: {}", error.message()))?;
        let Some(secrets) = table.get("secrets").and_then(Value::as_table) else { return Ok(()) };
        if let Some(driver) = secrets.get("driver").and_then(Value::as_str) {
            self.driver = Some((driver.to_owned(), path.to_owned()));
        }
        for (key, value) in secrets.get("opts").and_then(Value::as_table).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            self.options.insert(key.clone(), (value, path.to_owned()));
        }
        Ok(())
    }

    fn judge(&self, commands: &Commands) -> Vec<Finding> {
        let install = "`psi-driver install` writes podman's drop-in";
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
                    "remove it",
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
mod tests {
    use super::*;

    fn commands() -> Commands {
        ["lookup", "store", "delete", "list"]
            .map(|verb| (verb.to_owned(), format!("exec /usr/bin/psi-driver {verb}")))
            .into()
    }

    /// A host with psi's drop-in and these files besides.
    fn told(podman: u32, files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let psi = include_str!("../../../contrib/containers.conf.d/50-psi.conf");
        for (path, text) in
            files.iter().chain(&[("etc/containers/containers.conf.d/50-psi.conf", psi)])
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let places = Places {
            podman,
            user: Some(root.path().join("home")),
            only: None,
            last: None,
            root: root.path().into(),
        };
        let base = format!("{}/", root.path().display());
        let findings = judge(&places, &commands()).into_iter();
        findings.map(|finding| finding.what.replace(&base, "/")).collect()
    }

    #[test]
    fn a_drop_in_alone_is_good_and_so_are_files_about_other_things() {
        assert!(told(4, &[]).is_empty());
        let other = "[engine]\nruntime = \"crun\"\n";
        assert!(told(5, &[("etc/containers/containers.conf", other)]).is_empty());
        let before = "[secrets]\ndriver = \"pass\"\n";
        assert!(told(5, &[("etc/containers/containers.conf", before)]).is_empty());
    }

    #[test]
    fn what_breaks_it_is_named_with_its_file() {
        let late = "etc/containers/containers.conf.d/99-late.conf";
        let file = "[secrets]\ndriver = \"file\"\n";
        assert!(
            told(5, &[(late, file)])[0]
                .contains("file driver, by /etc/containers/containers.conf.d/99-late")
        );
        let root = "[secrets.opts]\nroot = \"/x\"\n";
        let why = told(5, &[(late, root)]);
        assert!(why[0].contains("sets [secrets.opts] root") && why.len() == 1, "{why:?}");
        let lookup = "[secrets.opts]\nlookup = \"exec true\"\n";
        assert!(told(5, &[(late, lookup)])[0].contains("another lookup command than psi's"));
        assert!(told(5, &[(late, "[secrets")])[0].contains("it is no TOML"));
    }

    /// Podman 6 sorts drop-ins by their names alone; before, the user's came last.
    #[test]
    fn the_order_is_that_of_podman_s_version() {
        let early = [("home/containers.conf.d/10-mine.conf", "[secrets]\ndriver = \"file\"\n")];
        assert_eq!(told(5, &early).len(), 1);
        assert!(told(6, &early).is_empty());
        let shadow = [("home/containers.conf.d/50-psi.conf", "[secrets]\ndriver = \"file\"\n")];
        assert_eq!(told(6, &shadow).len(), 1);
    }

    #[test]
    fn without_the_drop_in_new_secrets_are_in_clear() {
        let places = Places {
            podman: 5,
            user: None,
            only: Some("/nonexistent".into()),
            last: None,
            root: "/".into(),
        };
        let found = judge(&places, &commands());
        assert!(found[0].what.contains("podman's file driver, in clear"), "{found:?}");
        assert!(found[0].remedy.contains("psi-driver install"));
    }
}
