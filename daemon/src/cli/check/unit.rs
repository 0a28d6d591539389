//! psid.service as the service manager has loaded it, with its drop-ins: psid's user, and the paths that psid does not
//! see or write.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The settings of the packaged unit, for a host whose service manager does not run (sd_booted(3)).
const PACKAGED: &str = "User=psi\nGroup=psi\nProtectSystem=strict\nReadWritePaths=-/etc/psi\nProtectHome=yes\n\
    PrivateTmp=yes\nStateDirectory=psi\nRuntimeDirectory=psid\n";
const PROPERTIES: &str = "LoadState,NeedDaemonReload,ExecStart,User,Group,SupplementaryGroups,ProtectSystem,ProtectHome,\
    PrivateTmp,InaccessiblePaths,TemporaryFileSystem,BindPaths,BindReadOnlyPaths,ReadOnlyPaths,ReadWritePaths,\
    StateDirectory,RuntimeDirectory,RootDirectory,RootImage";
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// What a setting does to a path and those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    /// It cannot be read, and no other setting shows it again.
    Hidden,
    /// It is an empty directory, in which other settings may show a path.
    Empty,
    ReadOnly,
    Writable,
    /// It is this path of the host.
    Bound(PathBuf),
}

/// A setting's effect on one path.
#[derive(Debug)]
struct Rule {
    path: PathBuf,
    effect: Effect,
    setting: String,
}

/// The unit's user and sandbox.
#[derive(Debug, Default)]
pub(super) struct ServiceUnit {
    pub(super) user: String,
    pub(super) group: String,
    pub(super) supplementary_groups: Vec<String>,
    /// The config that it runs psid with, if that is known.
    pub(super) config: Option<PathBuf>,
    /// Whether its files are newer than what the service manager has loaded.
    pub(super) is_outdated: bool,
    /// The setting by which it has another root directory, in which nothing is known.
    root: Option<String>,
    rules: Vec<Rule>,
}

impl ServiceUnit {
    /// The unit of this host.
    pub(super) fn read() -> Self {
        if !Path::new("/run/systemd/system").is_dir() {
            return Self::parse(PACKAGED);
        }
        let mut command = Command::new("systemctl");
        command.args(["show", "psid.service", "--property", &PROPERTIES.replace(' ', "")]);
        let output = command.stdin(Stdio::null()).output().ok();
        let output = output.filter(|output| output.status.success());
        let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
        match text {
            Some(text) if text.lines().any(|line| line == "LoadState=loaded") => Self::parse(&text),
            _ => Self::parse(PACKAGED),
        }
    }

    /// Reads what `systemctl show` prints.
    fn parse(text: &str) -> Self {
        let mut unit = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let words = value.split_whitespace();
            match name {
                "User" => unit.user = value.to_owned(),
                "Group" => unit.group = value.to_owned(),
                "SupplementaryGroups" => {
                    unit.supplementary_groups = words.map(str::to_owned).collect();
                }
                "NeedDaemonReload" => unit.is_outdated = value == "yes",
                "ExecStart" => unit.config = config_of(value),
                "RootDirectory" | "RootImage" if !value.is_empty() && value != "/" => {
                    unit.root = Some(format!("{name}={value}"));
                }
                _ => unit.add(name, value),
            }
        }
        unit
    }

    /// Adds the rules of a setting.
    fn add(&mut self, name: &str, value: &str) {
        let setting = format!("{name}={value}");
        let mut add = |path: &str, effect| {
            // A path that may be missing has a minus before it.
            let path = path.trim_start_matches(['-', '+']).into();
            self.rules.push(Rule { path, effect, setting: setting.clone() });
        };
        let mut add_all = |paths: &[&str], effect: &Effect| {
            paths.iter().for_each(|path| add(path, effect.clone()));
        };
        match (name, value) {
            ("ProtectHome", "yes") => add_all(&HOMES, &Effect::Hidden),
            ("ProtectHome", "tmpfs") => add_all(&HOMES, &Effect::Empty),
            ("ProtectHome", "read-only") => add_all(&HOMES, &Effect::ReadOnly),
            ("PrivateTmp", "yes" | "connected" | "disconnected") => {
                add_all(&["/tmp", "/var/tmp"], &Effect::Empty);
            }
            ("ProtectSystem", "strict") => add_all(&["/"], &Effect::ReadOnly),
            ("ProtectSystem", "full") => add_all(&["/usr", "/boot", "/etc"], &Effect::ReadOnly),
            ("StateDirectory" | "RuntimeDirectory", _) => {
                let base = if name == "StateDirectory" { "/var/lib" } else { "/run" };
                for directory in value.split_whitespace() {
                    let directory = directory.split(':').next().unwrap_or_default();
                    add(&format!("{base}/{directory}"), Effect::Writable);
                }
            }
            ("BindPaths" | "BindReadOnlyPaths", _) => {
                for bind in value.split_whitespace() {
                    let mut parts = bind.trim_start_matches('-').split(':');
                    let source = parts.next().unwrap_or_default();
                    add(parts.next().unwrap_or(source), Effect::Bound(source.into()));
                }
            }
            _ => {
                let effect = match name {
                    "InaccessiblePaths" => Effect::Hidden,
                    "TemporaryFileSystem" => Effect::Empty,
                    "ReadOnlyPaths" => Effect::ReadOnly,
                    "ReadWritePaths" => Effect::Writable,
                    _ => return,
                };
                for path in value.split_whitespace() {
                    add(path.split(':').next().unwrap_or(path), effect.clone());
                }
            }
        }
    }

    /// The path of the host that psid sees as this one; the error is the setting that hides it.
    pub(super) fn seen(&self, path: &Path) -> Result<PathBuf, &str> {
        if let Some(setting) = &self.root {
            return Err(setting);
        }
        let above = || self.rules.iter().filter(|rule| path.starts_with(&rule.path));
        if let Some(rule) = above().find(|rule| rule.effect == Effect::Hidden) {
            return Err(&rule.setting);
        }
        let mounted =
            above().filter(|rule| matches!(rule.effect, Effect::Empty | Effect::Bound(_)));
        match mounted.max_by_key(|rule| rule.path.as_os_str().len()) {
            Some(Rule { effect: Effect::Bound(source), path: target, .. }) => {
                let below = path.strip_prefix(target).unwrap_or(Path::new(""));
                let is_itself = below.as_os_str().is_empty();
                Ok(if is_itself { source.clone() } else { source.join(below) })
            }
            Some(rule) => Err(&rule.setting),
            None => Ok(path.to_owned()),
        }
    }

    /// The setting by which psid may not write in a directory.
    pub(super) fn unwritable(&self, directory: &Path) -> Option<&str> {
        if let Err(setting) = self.seen(directory) {
            return Some(setting);
        }
        let above = self.rules.iter().filter(|rule| directory.starts_with(&rule.path));
        let decides =
            above.filter(|rule| matches!(rule.effect, Effect::ReadOnly | Effect::Writable));
        // Of two settings for one path, systemd takes the stricter one.
        let strict = |rule: &&Rule| (rule.path.as_os_str().len(), rule.effect == Effect::ReadOnly);
        let rule = decides.max_by_key(strict)?;
        (rule.effect == Effect::ReadOnly).then_some(&rule.setting)
    }
}

/// The `--config` of a command, as `systemctl show` prints commands. A path with blanks cannot be distinguished from two words.
fn config_of(command: &str) -> Option<PathBuf> {
    let (_, command) = command.split_once("argv[]=")?;
    let (command, _) = command.split_once(" ; ")?;
    let mut words = command.split_whitespace();
    words.find(|word| *word == "--config")?;
    words.next().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn seen(unit: &ServiceUnit, path: &str) -> String {
        match unit.seen(Path::new(path)) {
            Ok(path) => path.display().to_string(),
            Err(setting) => format!("hidden by {setting}"),
        }
    }

    #[test]
    fn settings_of_the_packaged_unit_are_those_of_its_file() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/systemd/psid.service");
        let text = std::fs::read_to_string(file).unwrap();
        for line in PACKAGED.lines() {
            assert!(text.lines().any(|of_file| of_file == line), "{line}");
        }
        let unit = ServiceUnit::parse(PACKAGED);
        assert_eq!((unit.user.as_str(), unit.config.is_none()), ("psi", true));
        for (path, expected) in [
            ("/home/admin/ca.pem", "hidden by ProtectHome=yes"),
            ("/root/secret", "hidden by ProtectHome=yes"),
            ("/tmp/secret", "hidden by PrivateTmp=yes"),
            ("/homes/ca.pem", "/homes/ca.pem"),
            ("/etc/psi/ca.pem", "/etc/psi/ca.pem"),
        ] {
            assert_eq!(seen(&unit, path), expected, "{path}");
        }
        for (path, expected) in [
            ("/var/lib/psi", None),
            ("/run/psid", None),
            ("/etc/psi", None),
            ("/srv", Some("ProtectSystem=strict")),
        ] {
            assert_eq!(unit.unwritable(Path::new(path)), expected, "{path}");
        }
    }

    /// As systemd 252 prints it.
    #[test]
    fn drop_ins_change_what_psid_sees() {
        let unit = ServiceUnit::parse(
            "ExecStart={ path=/usr/bin/psid ; argv[]=/usr/bin/psid --config /etc/x.toml ; ignore_errors=no ; pid=0 }\n\
             RootDirectory=\nRootImage=\nUser=web\nGroup=\nSupplementaryGroups=ca adm\nReadWritePaths=\n\
             ReadOnlyPaths=/var/lib/psi /x\nInaccessiblePaths=-/srv\nPrivateTmp=no\nProtectHome=tmpfs\n\
             ProtectSystem=strict\nRuntimeDirectory=psid\nStateDirectory=psi\nBindPaths=/q:/q:rbind\n\
             BindReadOnlyPaths=/home/a:/home/a:rbind /etc/b:/tmp/b:rbind -/srv/c:/srv/c\nTemporaryFileSystem=/opt:ro\n\
             NeedDaemonReload=yes\n",
        );
        assert_eq!((unit.user.as_str(), unit.group.as_str(), unit.is_outdated), ("web", "", true));
        assert_eq!(unit.supplementary_groups, ["ca", "adm"]);
        assert_eq!(unit.config.as_deref(), Some(Path::new("/etc/x.toml")));
        for (path, expected) in [
            ("/home/a", "/home/a"),
            ("/home/a/ca.pem", "/home/a/ca.pem"),
            ("/home/ab", "hidden by ProtectHome=tmpfs"),
            ("/tmp/b", "/etc/b"),
            ("/tmp/b/key", "/etc/b/key"),
            ("/tmp/c", "/tmp/c"),
            ("/srv/c", "hidden by InaccessiblePaths=-/srv"),
            ("/opt/x", "hidden by TemporaryFileSystem=/opt:ro"),
        ] {
            assert_eq!(seen(&unit, path), expected, "{path}");
        }
        let why = unit.unwritable(Path::new("/var/lib/psi"));
        assert_eq!(why, Some("ReadOnlyPaths=/var/lib/psi /x"));
        assert_eq!(unit.unwritable(Path::new("/run/psid")), None);
        let elsewhere = ServiceUnit::parse("RootImage=/x.raw\n");
        assert_eq!(seen(&elsewhere, "/etc/psi/ca.pem"), "hidden by RootImage=/x.raw");
    }
}
