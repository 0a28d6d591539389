//! Quadlet's container units, as quadlet finds and reads them (podman's cmd/quadlet and pkg/systemd, 5.0 to 6.1).

mod search;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use psi_common::Problem;

pub(crate) use search::{below, directories};
pub(crate) use syntax::{Dialect, UnitFile, expanded, words};

const CONTAINER: &str = "Container";
const SUFFIX: &str = ".container";

/// A container unit with its drop-ins.
pub(crate) struct Quadlet {
    /// The unit that quadlet generates from it.
    pub(crate) unit: String,
    pub(crate) path: PathBuf,
    /// The secrets that it names.
    pub(crate) secrets: BTreeSet<SecretUse>,
    /// Files that quadlet leaves out, each with the reason; without its main file there is no unit.
    pub(crate) refused: Vec<Problem>,
}

/// A secret that a command or a unit names for a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SecretUse {
    /// Its name; podman accepts its id too.
    pub(crate) name: String,
    /// Whether it is a variable, which podman looks up at each start; a file is looked up at the creation only.
    pub(crate) is_variable: bool,
}

/// Every container unit in these directories. Quadlet drops all units of a directory that has a file which it cannot
/// parse.
pub(crate) fn containers(directories: &[PathBuf]) -> Vec<Quadlet> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for directory in directories {
        let first = found.len();
        let mut broken = Vec::new();
        for path in entries(directory) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if !is_of_quadlet(&path) || seen.contains(name) {
                continue;
            }
            let name = name.to_owned();
            let parsed = parse(&path);
            if let Some(stem) = name.strip_suffix(SUFFIX) {
                found.push(Quadlet::of(stem, &path, parsed.as_ref().ok(), directories));
            }
            match parsed {
                Ok(_) => {
                    seen.insert(name);
                }
                Err(why) => {
                    let directory = directory.display();
                    broken.push(refused(
                        &format!("generates no unit from the files of {directory}"),
                        &path,
                        &why,
                    ));
                }
            }
        }
        for quadlet in &mut found[first..] {
            if !broken.is_empty() {
                quadlet.refused.clone_from(&broken);
            }
        }
    }
    found
}

/// Whether quadlet reads a file of this name.
fn is_of_quadlet(path: &Path) -> bool {
    let types = ["container", "volume", "kube", "network", "image", "build", "pod"];
    path.extension().is_some_and(|extension| types.iter().any(|known| extension == *known))
}

fn parse(path: &Path) -> Result<UnitFile, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    UnitFile::parse(&text, Dialect::Quadlet).map_err(|error| error.to_string())
}

fn refused(fate: &str, path: &Path, why: &str) -> Problem {
    let what = format!("quadlet {fate}: {}: {why}", path.display());
    Problem::new(what, format!("correct it, then `{RELOAD}`"))
}

impl Quadlet {
    fn of(stem: &str, path: &Path, file: Option<&UnitFile>, directories: &[PathBuf]) -> Self {
        let unit = format!("{stem}.service");
        let mut quadlet =
            Self { unit, path: path.to_owned(), secrets: BTreeSet::new(), refused: Vec::new() };
        let mut file = file.cloned().unwrap_or_default();
        for path in drop_ins(stem, directories) {
            match parse(&path) {
                Ok(drop_in) => file.merge(drop_in),
                Err(why) => quadlet.refused.push(refused("ignores a drop-in", &path, &why)),
            }
        }
        let has = |key| file.last(CONTAINER, key).is_some_and(|value| !value.is_empty());
        if !has("Image") && !has("Rootfs") {
            let why = "[Container] has neither Image= nor Rootfs=";
            quadlet.refused.push(refused("generates no unit", path, why));
            return quadlet;
        }
        let named = file.last(CONTAINER, "ServiceName").and_then(|name| str::from_utf8(name).ok());
        if let Some(name) = named {
            quadlet.unit = format!("{name}.service");
        }
        let secrets = file.words(CONTAINER, "Secret", Dialect::Quadlet);
        let args = file.words(CONTAINER, "PodmanArgs", Dialect::Quadlet);
        let specs = secrets.iter().map(Vec::as_slice).chain(secret_options(&args));
        quadlet.secrets = uses(specs, &quadlet.unit);
        quadlet
    }
}

/// At a reload, systemd runs quadlet.
const RELOAD: &str = "systemctl daemon-reload";

/// The arguments of `--secret` in a command line.
pub(crate) fn secret_options(args: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    args.iter().enumerate().filter_map(|(at, arg)| match arg.strip_prefix(b"--secret") {
        Some([]) => args.get(at + 1).map(Vec::as_slice),
        Some([b'=', spec @ ..]) => Some(spec),
        _ => None,
    })
}

/// The secrets of arguments of `--secret` in a unit. One whose name only systemd can expand is left out.
pub(crate) fn uses<'a>(
    specs: impl IntoIterator<Item = &'a [u8]>,
    unit: &str,
) -> BTreeSet<SecretUse> {
    let expand = |spec: &[u8]| expanded(spec, |name| specifier(unit, name));
    let expanded = specs.into_iter().filter_map(expand);
    expanded.filter_map(|spec| SecretUse::of(str::from_utf8(&spec).ok()?)).collect()
}

/// The specifiers that follow from a unit's name (systemd.unit(5)).
fn specifier(unit: &str, name: u8) -> Option<String> {
    let stem = unit.rsplit_once('.').map_or(unit, |(stem, _)| stem);
    let (prefix, instance) = match stem.split_once('@') {
        Some((prefix, instance)) => (prefix, Some(instance)),
        None => (stem, None),
    };
    // A template has no name of its own.
    let is_template = instance == Some("");
    match name {
        b'n' if !is_template => Some(unit.to_owned()),
        b'N' if !is_template => Some(stem.to_owned()),
        b'p' => Some(prefix.to_owned()),
        b'i' if !is_template => Some(instance.unwrap_or_default().to_owned()),
        b'j' => Some(prefix.rsplit('-').next().unwrap_or(prefix).to_owned()),
        _ => None,
    }
}

impl SecretUse {
    /// The secret of an argument of `--secret`: `NAME`, `NAME,OPTION=VALUE` or `source=NAME,…`.
    pub(crate) fn of(spec: &str) -> Option<Self> {
        let mut options = spec.split(',').peekable();
        let first = options.peek().copied()?;
        let mut name = None;
        if first == spec || !first.contains('=') {
            name = options.next();
        }
        let mut is_variable = false;
        for option in options {
            match option.split_once('=') {
                Some(("source", source)) => name = Some(source),
                Some(("type", kind)) => is_variable = kind == "env",
                _ => {}
            }
        }
        let name = name.filter(|name| !name.is_empty())?;
        Some(Self { name: name.to_owned(), is_variable })
    }
}

/// The drop-ins of a unit that are in its own directory, in quadlet's order.
pub(crate) fn drop_ins_beside(unit: &Path) -> Vec<PathBuf> {
    let name = unit.file_name().and_then(|name| name.to_str());
    match (name.and_then(|name| name.strip_suffix(SUFFIX)), unit.parent()) {
        (Some(stem), Some(directory)) => drop_ins(stem, &[directory.to_owned()]),
        _ => Vec::new(),
    }
}

/// The drop-ins of a unit, in the order in which quadlet merges them.
fn drop_ins(stem: &str, directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for name in drop_in_directories(stem) {
        for path in directories.iter().flat_map(|directory| entries(&directory.join(&name))) {
            let is_conf = path.extension().is_some_and(|extension| extension == "conf");
            if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| is_conf)
            {
                files.entry(name.to_owned()).or_insert(path);
            }
        }
    }
    files.into_values().collect()
}

/// The names of the directories of a unit's drop-ins, the most specific first.
fn drop_in_directories(stem: &str) -> Vec<String> {
    let mut names = vec!["container.d".to_owned()];
    let (prefix, instance) = match stem.split_once('@') {
        Some((prefix, instance)) => (prefix, Some(instance)),
        None => (stem, None),
    };
    for (at, _) in prefix.match_indices('-') {
        names.push(format!("{}{SUFFIX}.d", &prefix[..=at]));
        if instance.is_some() {
            names.push(format!("{}@{SUFFIX}.d", &prefix[..=at]));
        }
    }
    if instance.is_some_and(|instance| !instance.is_empty()) {
        names.push(format!("{prefix}@{SUFFIX}.d"));
    }
    names.push(format!("{stem}{SUFFIX}.d"));
    names.reverse();
    names
}

/// The paths in a directory, sorted.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_argument_is_read_as_by_podman() {
        for (spec, expected) in [
            ("a", Some(("a", false))),
            ("a=b", Some(("a=b", false))),
            ("a,type=env,target=T", Some(("a", true))),
            ("a,mode=0400", Some(("a", false))),
            ("source=a,type=env", Some(("a", true))),
            ("type=env,source=a", Some(("a", true))),
            ("type=env,target=a", None),
            ("", None),
        ] {
            let found = SecretUse::of(spec);
            let found = found.as_ref().map(|it| (it.name.as_str(), it.is_variable));
            assert_eq!(found, expected, "{spec}");
        }
    }

    #[test]
    fn secret_options_are_found_in_both_forms() {
        let args: Vec<Vec<u8>> = ["run", "--secret", "a", "--secret=b,type=env", "--secrets=c"]
            .map(|arg| arg.as_bytes().to_vec())
            .into();
        let specs: Vec<&[u8]> = secret_options(&args).collect();
        assert_eq!(specs, [b"a".as_slice(), b"b,type=env"]);
    }

    #[test]
    fn specifiers_follow_the_name_of_the_unit() {
        let expand = |unit: &str, text: &str| {
            let names = uses([text.as_bytes()], unit);
            names.into_iter().next().map(|one| one.name)
        };
        let of_instance = expand("my-app@eu.service", "%p-%i-%j-%N-%%");
        assert_eq!(of_instance.unwrap(), "my-app-eu-app-my-app@eu-%");
        assert_eq!(expand("app.service", "%n%i").unwrap(), "app.service");
        assert_eq!(expand("app@.service", "%p").unwrap(), "app");
        assert_eq!(expand("app@.service", "%i"), None);
        assert_eq!(expand("app.service", "%h"), None);
    }

    #[test]
    fn drop_in_directories_are_those_of_quadlet() {
        assert_eq!(drop_in_directories("app"), ["app.container.d", "container.d"]);
        assert_eq!(
            drop_in_directories("my-big-app@eu"),
            [
                "my-big-app@eu.container.d",
                "my-big-app@.container.d",
                "my-big-@.container.d",
                "my-big-.container.d",
                "my-@.container.d",
                "my-.container.d",
                "container.d"
            ]
        );
    }
}
