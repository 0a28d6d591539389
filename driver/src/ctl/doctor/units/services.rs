//! Units that run podman by a command of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use psi_common::{Paths, Scope};

use super::{Unit, UnitKind, names_of};
use crate::ctl::quadlet::{Dialect, SecretUse, UnitFile, secret_options, uses, words};

const SUFFIX: &str = ".service";
/// The keys of commands that a start runs.
const COMMANDS: [&str; 3] = ["ExecStartPre", "ExecStart", "ExecStartPost"];

/// The directories of local units, in systemd's order.
pub(super) fn directories(scope: Scope, paths: &Paths) -> Vec<PathBuf> {
    match scope {
        Scope::System => {
            ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"]
                .map(PathBuf::from)
                .into()
        }
        Scope::User { .. } => {
            // Beside ~/.config/containers/systemd.
            let config = paths.quadlets.ancestors().nth(2).unwrap_or(Path::new("/"));
            vec![config.join("systemd/user"), "/etc/systemd/user".into()]
        }
    }
}

/// The units that name a secret for podman.
pub(super) fn load(directories: &[PathBuf]) -> Vec<Unit> {
    let mut paths: BTreeMap<String, PathBuf> = BTreeMap::new();
    for directory in directories {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_str().filter(|name| name.ends_with(SUFFIX));
            if let Some(name) = name {
                paths.entry(name.to_owned()).or_insert(entry.path());
            }
        }
    }
    let all = paths.into_iter().map(|(name, path)| read(name, path, directories));
    all.filter(|unit| !unit.secrets.is_empty()).collect()
}

fn read(name: String, path: PathBuf, directories: &[PathBuf]) -> Unit {
    let mut file = UnitFile::default();
    for path in [path.clone()].into_iter().chain(drop_ins(&name, directories)) {
        let text = fs::read(path).unwrap_or_default();
        if let Ok(part) = UnitFile::parse(&text, Dialect::Systemd) {
            file.merge(part);
        }
    }
    let mut secrets: BTreeSet<SecretUse> = BTreeSet::new();
    for command in COMMANDS.iter().flat_map(|key| file.values("Service", key)) {
        let args = words(command, Dialect::Systemd).unwrap_or_default();
        secrets.extend(of_command(&args, &name));
    }
    let user = file.last("Service", "User").and_then(|user| str::from_utf8(user).ok());
    let user = user.filter(|user| !["", "root", "0"].contains(user)).map(str::to_owned);
    Unit { name, kind: UnitKind::Service, path: Some(path), user, secrets: names_of(&secrets) }
}

fn drop_ins(name: &str, directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut files: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for directory in directories {
        let directory = directory.join(format!("{name}.d"));
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "conf") {
                files.entry(entry.file_name()).or_insert(entry.path());
            }
        }
    }
    files.into_values().collect()
}

/// The secrets of a podman in a command, also of one that a shell runs.
fn of_command(args: &[Vec<u8>], unit: &str) -> BTreeSet<SecretUse> {
    if args.iter().any(|arg| is_podman(arg)) {
        return uses(secret_options(args), unit);
    }
    let scripts = args.iter().filter(|arg| arg.contains(&b' '));
    let of_scripts = scripts.filter_map(|script| words(script, Dialect::Systemd));
    of_scripts
        .filter(|args| args.iter().any(|arg| is_podman(arg)))
        .flat_map(|args| uses(secret_options(&args), unit))
        .collect()
}

/// Whether a word is podman, also behind the prefixes of systemd.service(5).
fn is_podman(word: &[u8]) -> bool {
    let start = word.iter().position(|byte| !b"-@:+!|".contains(byte)).unwrap_or_default();
    let word = &word[start..];
    word == b"podman" || word.ends_with(b"/podman")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_commands_drop_ins_and_scripts_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        write(
            "web.service",
            "[Service]\nUser=web\nExecStart=-/usr/bin/podman run --entrypoint \"\" --secret db_pw,type=env \\\n\
             --secret=%N-key image\n",
        );
        write(
            "db.service",
            "[Service]\nExecStart=/bin/sh -c 'exec podman run --secret \"x y\" image'\n",
        );
        write("other.service", "[Service]\nExecStart=/usr/bin/docker run --secret no image\n");
        write("plain.service", "[Service]\nExecStart=/usr/bin/podman run image\n");
        fs::create_dir(path("plain.service.d")).unwrap();
        write(
            "plain.service.d/a.conf",
            "[Service]\nExecStart=\nExecStart=podman run --secret late image\n",
        );
        let units = load(&[directory.path().to_owned()]);
        let found: Vec<(&str, Option<&str>, Vec<&str>)> = units
            .iter()
            .map(|unit| {
                let secrets = unit.secrets.iter().map(String::as_str).collect();
                (unit.name.as_str(), unit.user.as_deref(), secrets)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("db.service", None, vec!["x y"]),
                ("plain.service", None, vec!["late"]),
                ("web.service", Some("web"), vec!["db_pw", "web-key"]),
            ]
        );
    }
}
