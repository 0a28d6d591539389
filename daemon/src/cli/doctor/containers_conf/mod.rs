//! Findings about podman's config: podman merges containers.conf key by key from many files, and any of them may override
//! psi's drop-in (containers.conf(5), common/pkg/config/new.go).

mod places;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use psi_common::Finding;
use toml::{Table, Value};

use places::ConfigFile;
pub use places::{Places, PodmanVersion};

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
    let mut secrets = Secrets::default();
    let found = places.files();
    let unlisted =
        found.unlisted.into_iter().map(|(path, error)| broken(&path, &error.to_string()));
    let mut findings: Vec<Finding> = unlisted.collect();
    for file in &found.files {
        if let Err(why) = secrets.read(file) {
            findings.push(broken(&file.path, &why));
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

/// The finding about a file or directory with which podman does not start.
fn broken(path: &Path, why: &str) -> Finding {
    Finding::error(
        format!("podman does not start with {}: {why}", path.display()),
        format!("correct or remove {}", path.display()),
    )
}

/// The text of a file; `None` if podman does without it.
fn text(file: &ConfigFile) -> Result<Option<String>, String> {
    let kind = match fs::metadata(&file.path) {
        Ok(about) => about.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound && file.may_be_missing => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    if kind.is_dir() || kind.is_fifo() || kind.is_socket() {
        return Err("it is not a file".into());
    }
    fs::read_to_string(&file.path).map(Some).map_err(|error| error.to_string())
}

/// The values of a key. Podman's parser ignores its case (Go's strings.EqualFold), except in `opts`, which is a map.
fn members<'a>(table: &'a Table, name: &str) -> impl Iterator<Item = &'a Value> {
    let is_same = move |key: &str| key.replace('ſ', "s").eq_ignore_ascii_case(name);
    table.iter().filter(move |(key, _)| is_same(key)).map(|(_, value)| value)
}

impl Secrets {
    fn read(&mut self, file: &ConfigFile) -> Result<(), String> {
        let Some(text) = text(file)? else { return Ok(()) };
        let table: Table = toml::from_str(&text)
            .map_err(|error| format!("it is not TOML: {}", error.message()))?;
        let mistyped = |key: &str, wanted| format!("its `{key}` is no {wanted}");
        for secrets in members(&table, "secrets") {
            let secrets = secrets.as_table().ok_or_else(|| mistyped("secrets", "table"))?;
            for driver in members(secrets, "driver") {
                let driver =
                    driver.as_str().ok_or_else(|| mistyped("driver` of `[secrets]", "string"))?;
                self.driver = Some((driver.to_owned(), file.path.clone()));
            }
            // Podman ignores `opts` that is no table.
            for (key, value) in members(secrets, "opts").filter_map(Value::as_table).flatten() {
                let of_opts = || mistyped(&format!("{key}` of `[secrets.opts]"), "string");
                let value = value.as_str().ok_or_else(of_opts)?.to_owned();
                self.options.insert(key.clone(), (value, file.path.clone()));
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
            let what = match driver {
                "file" => format!(
                    "`podman secret create` stores new secrets with podman's file driver{by}, in plaintext"
                ),
                "pass" => format!(
                    "`podman secret create` stores new secrets with podman's pass driver{by}"
                ),
                _ => format!("podman creates no new secret: it has no driver '{driver}'{by}"),
            };
            let remedy = match &self.driver {
                Some((_, path)) => {
                    format!("remove `driver` of [secrets] from {}; {install}", path.display())
                }
                None => install.into(),
            };
            return match driver {
                "file" | "pass" => vec![Finding::warning(what, remedy)],
                _ => vec![Finding::error(what, remedy)],
            };
        }
        let mut findings = Vec::new();
        for (key, (value, path)) in &self.options {
            match commands.get(key) {
                Some(wanted) if wanted == value => {}
                Some(_) if value.is_empty() => findings.push(Finding::error(
                    format!("{} sets an empty {key} command: podman creates no new secret", path.display()),
                    format!("remove `{key}` of [secrets.opts] from it; {install}"),
                )),
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
