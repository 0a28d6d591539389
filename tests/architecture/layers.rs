//! Each module imports only its own directory and the layers below it, and no modules form a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::exceptions;
use super::modules::{ModulePath, Modules};
use super::rules::{ALLOWED, ALLOWED_IN_DRIVER, DAEMON, DRIVER, Layers};

/// Whether `path` is `place`, or below it where `place` ends with `::`.
pub(crate) fn is_in(path: &str, place: &str) -> bool {
    match place.strip_suffix("::") {
        Some(top) => path == top || path.starts_with(place),
        None => path == place,
    }
}

/// The imports that [`ALLOWED`] does not list.
fn imports_not_allowed(modules: &Modules, allowed: &[(&str, &[&str])]) -> Vec<String> {
    let mut faults = Vec::new();
    for (rule, others) in allowed {
        let mut is_used = false;
        for (path, module) in modules.all() {
            let path = path.join("::");
            if !is_in(&path, rule) {
                continue;
            }
            is_used = true;
            for named in modules.named_by(module).iter().map(|named| named.join("::")) {
                let is_own = is_in(&named, rule) || named == path;
                if !is_own && !others.iter().any(|other| is_in(&named, other)) {
                    faults.push(format!("{path} may not import {named}"));
                }
            }
        }
        if !is_used {
            faults.push(format!("there is no module {rule}: correct the rule"));
        }
    }
    faults
}

/// The violations of the rules, one per line.
fn faults(modules: &Modules, layers: Layers) -> Vec<String> {
    let rank: BTreeMap<&str, usize> = layers
        .iter()
        .enumerate()
        .flat_map(|(rank, layer)| layer.iter().map(move |name| (*name, rank)))
        .collect();
    let mut faults = Vec::new();
    for (path, module) in modules.all().filter(|(path, _)| !path.is_empty()) {
        let top = path[0].as_str();
        let Some(own) = rank.get(top) else {
            faults.push(format!("{} is in no layer", path.join("::")));
            continue;
        };
        for named in modules.named_by(module) {
            let other = named[0].as_str();
            if other != top && rank.get(other).is_none_or(|other| other >= own) {
                faults.push(format!("{} imports {}", path.join("::"), named.join("::")));
            }
        }
    }
    faults.extend(circles(modules));
    faults
}

/// The circles between the children of each module; what a child's own children import counts as the child's.
fn circles(modules: &Modules) -> Vec<String> {
    let mut edges: BTreeMap<ModulePath, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (path, module) in modules.all() {
        for named in modules.named_by(module) {
            let shared = path.iter().zip(&named).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (path.get(shared), named.get(shared)) {
                let parent = edges.entry(path[..shared].to_vec()).or_default();
                parent.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    let mut found = Vec::new();
    for (parent, edges) in &edges {
        for start in edges.keys() {
            // Each circle once: by its first name.
            if let Some(path) =
                path_back_to(start, edges).filter(|path| path.iter().min() == Some(start))
            {
                let parent = if parent.is_empty() { "the root".into() } else { parent.join("::") };
                found.push(format!("circle in {parent}: {}", path.join(" -> ")));
            }
        }
    }
    found
}

/// The shortest way from `start` back to it.
fn path_back_to(start: &String, edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut next = Vec::new();
        for way in ways {
            for to in edges.get(way.last()?).into_iter().flatten() {
                if to == start {
                    return Some(way);
                }
                if seen.insert(to) {
                    next.push(way.iter().cloned().chain([to.clone()]).collect());
                }
            }
        }
        ways = next;
    }
    None
}

/// The crate in `directory` keeps to its layers, but for the exceptions.
#[track_caller]
fn assert_layers(directory: &str, layers: Layers) {
    let modules = Modules::of_crate(directory);
    let directories: BTreeSet<&String> =
        modules.all().filter_map(|(path, _)| path.first()).collect();
    for name in layers.iter().flat_map(|layer| layer.iter()) {
        assert!(directories.iter().any(|directory| directory == name), "there is no module {name}");
    }
    let faults = faults(modules, layers).into_iter().map(|fault| format!("{directory}: {fault}"));
    assert_none(faults, exceptions::LAYERS);
}

/// There are no faults but the exceptions.
#[track_caller]
fn assert_none(faults: impl IntoIterator<Item = String>, exceptions: &[&str]) {
    let faults: Vec<String> =
        faults.into_iter().filter(|fault| !exceptions.contains(&fault.as_str())).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn daemon_modules_import_only_lower_layers() {
    assert_layers("daemon", DAEMON);
}

#[test]
fn modules_import_only_what_their_rule_allows() {
    let modules = Modules::of_crate("daemon");
    assert_none(imports_not_allowed(modules, ALLOWED), exceptions::IMPORTS);
    let modules = Modules::of_crate("driver");
    assert_none(imports_not_allowed(modules, ALLOWED_IN_DRIVER), exceptions::IMPORTS);
}

#[test]
fn driver_modules_import_only_lower_layers() {
    assert_layers("driver", DRIVER);
}

/// The files of a crate, given as (path, text).
fn crate_of(files: &[(&str, &str)]) -> Modules {
    let read = |file: &Path| {
        let file = file.to_str().unwrap();
        files.iter().find(|(path, _)| *path == file).map(|(_, text)| (*text).to_owned())
    };
    Modules::parse(Path::new("lib.rs"), &read)
}

const GOOD: [(&str, &str); 5] = [
    ("lib.rs", "mod cache; mod sys; #[cfg(test)] mod tests;"),
    ("cache/mod.rs", "mod entry; pub use entry::Entry; use crate::sys::files;"),
    ("cache/entry.rs", "use super::Policy; fn f() { log!(\"{}\", crate::sys::files::N); }"),
    ("sys/mod.rs", "pub mod files;"),
    ("sys/files.rs", "#[cfg(test)] mod tests { use crate::cache; }"),
];

#[test]
fn checker_accepts_imports_of_lower_layers_parents_and_test_modules() {
    assert_eq!(faults(&crate_of(&GOOD), DAEMON), Vec::<String>::new());
}

#[test]
fn checker_reports_upward_import_in_any_position() {
    for text in [
        "use crate::cache::Entry;",
        "use crate::{cache::Entry, sys};",
        "use super::super::cache;",
        "fn f() -> crate::cache::Entry { todo!() }",
        "fn f() { log!(\"{}\", crate::cache::N); }",
        "#[cfg(test)] mod tests {} use crate::cache::Entry;",
    ] {
        let mut files = GOOD;
        files[4].1 = text;
        let faults = faults(&crate_of(&files), DAEMON);
        assert!(
            faults.contains(&"sys::files imports cache".into())
                || faults.contains(&"sys::files imports cache::entry".into()),
            "{text}: {faults:?}"
        );
    }
}

#[test]
fn checker_reports_circle_between_siblings() {
    let files = [
        ("lib.rs", "mod sys;"),
        ("sys/mod.rs", "mod a; mod b; mod c;"),
        ("sys/a.rs", "use super::b::B;"),
        ("sys/b.rs", "use crate::sys::c;"),
        ("sys/c.rs", "fn f() { super::a::f() }"),
    ];
    assert_eq!(faults(&crate_of(&files), DAEMON), ["circle in sys: a -> b -> c"]);
}

#[test]
fn checker_reports_module_without_layer() {
    let files = [("lib.rs", "mod helpers;"), ("helpers.rs", "")];
    assert_eq!(faults(&crate_of(&files), DAEMON), ["helpers is in no layer"]);
}

#[test]
fn checker_reports_import_that_is_not_allowed() {
    let files = [
        ("lib.rs", "mod cache; mod sys;"),
        ("cache/mod.rs", "mod entry; use crate::sys::files; use crate::sys::notify;"),
        ("cache/entry.rs", "use super::X; use crate::sys::notify;"),
        ("sys/mod.rs", "pub mod files; pub mod notify;"),
        ("sys/files.rs", ""),
        ("sys/notify.rs", ""),
    ];
    let allowed: &[(&str, &[&str])] = &[("cache::", &["sys::files"]), ("gone", &[])];
    assert_eq!(
        imports_not_allowed(&crate_of(&files), allowed),
        [
            "cache may not import sys::notify",
            "cache::entry may not import sys::notify",
            "there is no module gone: correct the rule",
        ]
    );
}
