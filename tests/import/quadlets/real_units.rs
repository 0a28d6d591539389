//! Units that people published, compared as the cases are. None of them is in this repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::view::View;
use super::{Import, Unit, host};

/// Only with `PSI_QUADLETS=DIRECTORY`: compares each `.container` file of it, and prints a line for each and a table.
#[test]
fn import_reads_real_units_as_quadlet_does() {
    let Some(directory) = std::env::var_os("PSI_QUADLETS") else { return };
    let host = host();
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (nth, file) in files.iter().enumerate() {
        let text = fs::read_to_string(file).unwrap();
        let unit = Unit::new(&host, nth, name(file));
        // A file of the host is one of the unit's directory here.
        unit.write(&text.replace("EnvironmentFile=/", "EnvironmentFile=./"));
        let outcome = outcome(&unit);
        println!("{}: {outcome}", file.display());
        let kind = outcome.split(": ").next().unwrap();
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    println!("| outcome | of {} files |\n| --- | --- |", files.len());
    for (outcome, count) in &counts {
        println!("| {outcome} | {count} |");
    }
    let differing: Vec<_> =
        counts.keys().filter(|outcome| outcome.starts_with("DIFFERS")).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

/// A template stays one; any other name has no meaning to quadlet.
fn name(file: &Path) -> &'static str {
    let is_template = file.to_str().unwrap().ends_with("@.container");
    if is_template { "app@.container" } else { "app.container" }
}

/// The view of the quadlet at hand, from which a key of a newer one would hide it.
fn view(unit: &Unit) -> Result<View, String> {
    let view = View::of(unit);
    let why = view.as_ref().err();
    let Some((_, key)) = why.and_then(|why| why.split_once("unsupported key '")) else {
        return view;
    };
    let key = format!("{}=", key.split('\'').next().unwrap());
    let text = fs::read_to_string(&unit.path).unwrap();
    let known: Vec<_> = text.lines().filter(|line| !line.starts_with(&key)).collect();
    assert_ne!(known.len(), text.lines().count(), "{key}");
    fs::write(&unit.path, known.join("\n")).unwrap();
    self::view(unit)
}

fn outcome(unit: &Unit) -> String {
    match (unit.import(), view(unit)) {
        (Import::Done(values, is_whole), Ok(view)) => {
            let differing = view.differences(&values);
            if !differing.is_empty() {
                format!("DIFFERS: {differing:?}")
            } else if is_whole != view.open.is_empty() {
                format!("DIFFERS: whole {is_whole}, only systemd has {:?}", view.open)
            } else if is_whole {
                format!("all values the same: {}", values.len())
            } else {
                format!("the same but values of systemd, which are named: {:?}", view.open)
            }
        }
        (Import::Done(..), Err(why)) => format!("imported, the quadlet at hand refuses it: {why}"),
        (Import::Refused(why), Ok(_)) if why.contains("has a word without a variable name") => {
            format!("refused, quadlet would cut a value at a blank: {why}")
        }
        (Import::Refused(why), Ok(view)) if !view.values.is_empty() => {
            format!("DIFFERS: refused, quadlet has {} values: {why}", view.values.len())
        }
        (Import::Refused(why), Ok(view)) if !view.open.is_empty() => {
            format!("refused, all its values are systemd's: {why}")
        }
        (Import::Refused(why), Ok(_)) => format!("refused, quadlet has no value: {why}"),
        (Import::Refused(why), Err(by_quadlet)) => format!("refused by both: {by_quadlet}: {why}"),
    }
}
