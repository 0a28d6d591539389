//! The limits of size, and one name for one type.

use std::collections::{BTreeMap, BTreeSet};

use super::exceptions;
use super::modules::Modules;

const CRATES: [&str; 3] = ["common", "daemon", "driver"];

const LINES_OF_A_FILE: usize = 400;
const LINES_OF_A_FUNCTION: usize = 60;
const PARAMETERS: usize = 5;

/// Asserts that every fault is an exception; otherwise lists the others.
#[track_caller]
fn assert_only(faults: &BTreeMap<String, String>, exceptions: &[&str]) {
    let others: Vec<String> = faults
        .iter()
        .filter(|(name, _)| !exceptions.contains(&name.as_str()))
        .map(|(name, fault)| format!("{name}: {fault}"))
        .collect();
    assert!(others.is_empty(), "{} faults:\n{}", others.len(), others.join("\n"));
}

/// The faults of every module of every crate: `crate::module`, and the message of `check`.
fn faults(
    check: impl Fn(&super::modules::Module) -> Vec<(String, String)>,
) -> BTreeMap<String, String> {
    let mut faults = BTreeMap::new();
    for name in CRATES {
        let modules = Modules::of_crate(name);
        for (path, module) in modules.all() {
            let place = std::iter::once(name).chain(path.iter().map(String::as_str));
            let place = place.collect::<Vec<_>>().join("::");
            faults.extend(
                check(module).into_iter().map(|(item, fault)| (place.clone() + &item, fault)),
            );
        }
    }
    faults
}

#[test]
fn files_have_at_most_400_lines() {
    let long = faults(|module| match module.lines {
        0..=LINES_OF_A_FILE => Vec::new(),
        lines => vec![(String::new(), format!("{lines} lines"))],
    });
    assert_only(&long, exceptions::LONG_FILES);
}

#[test]
fn functions_have_at_most_60_lines() {
    let long = faults(|module| {
        let long = module.functions.iter().filter(|one| one.lines > LINES_OF_A_FUNCTION);
        long.map(|one| (format!("::{}", one.name), format!("{} lines", one.lines))).collect()
    });
    assert_only(&long, exceptions::LONG_FUNCTIONS);
}

#[test]
fn functions_have_at_most_5_parameters() {
    let wide = faults(|module| {
        let wide = module.functions.iter().filter(|one| one.parameters > PARAMETERS);
        wide.map(|one| (format!("::{}", one.name), format!("{} parameters", one.parameters)))
            .collect()
    });
    assert_only(&wide, exceptions::WIDE_FUNCTIONS);
}

#[test]
fn no_type_name_is_used_twice_in_a_crate() {
    let mut twice = BTreeMap::new();
    for name in CRATES {
        let modules = Modules::of_crate(name);
        let mut places: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
        for (path, module) in modules.all() {
            for type_name in &module.types {
                places.entry(type_name).or_default().insert(path.join("::"));
            }
        }
        for (type_name, places) in places.into_iter().filter(|(_, places)| places.len() > 1) {
            let places = places.into_iter().collect::<Vec<_>>().join(", ");
            twice.insert(format!("{name}: {type_name}"), places);
        }
    }
    assert_only(&twice, exceptions::TYPE_NAMES);
}

#[test]
fn checker_measures_functions_and_types() {
    let text = "struct A;\npub(crate) struct B;\nimpl B {\n  fn f(&self, a: u8, b: u8) {\n    g();\n  }\n}\n\
                #[cfg(test)]\nmod tests { pub struct C; fn t() {} }\n";
    let read = |_: &std::path::Path| Some(text.to_owned());
    let modules = Modules::parse(std::path::Path::new("lib.rs"), &read);
    let (_, module) = modules.all().next().unwrap();
    let functions: Vec<_> =
        module.functions.iter().map(|one| (one.name.as_str(), one.lines, one.parameters)).collect();
    assert_eq!(functions, [("B::f", 3, 2)]);
    assert_eq!((module.types.clone(), module.lines), (vec!["B".to_owned()], 9));
}
