//! `psictl import quadlet` beside quadlet itself: an imported value is the one that the generated unit passes to podman.
//!
//! The cases here are written for this test. `PSI_QUADLETS=DIRECTORY` compares every `.container` file of a directory too,
//! and prints a line for each outcome.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use psi_harness::{Host, run_quadlet};

use super::fates;
use super::sources::host;

/// Units with the keys that psictl imports; the others it leaves out, with a warning and status 1.
const CASES: [(&str, &[&str], bool); 10] = [
    ("Environment=A=1 B=2\nEnvironment=\"C=two words\" 'D=x y'", &["A", "B", "C", "D"], true),
    ("Environment=A=a=b \\\n  B=2\n# no\n;no\nEnvironment=C=#3", &["A", "B", "C"], true),
    ("Environment=A=1\nEnvironment=\nEnvironment=B=2", &["B"], true),
    ("Environment=A=\"x y\" B=a\\x41\\tb C=\\\\", &["A", "B", "C"], true),
    ("Environment=A=%%h B=$$x", &["A", "B"], true),
    ("Environment=A=%h B=2", &["B"], false),
    ("Environment=A=1 B=${X}", &["A"], false),
    ("Environment=A=1 A=2", &["A"], true),
    ("  Environment = A=1  ", &["A"], true),
    ("Environment=A='{\"a\": [\"b\", 1]}'", &["A"], true),
];

/// What psictl does with a unit.
enum Outcome {
    /// The keys with their values, and whether nothing was left out.
    Imported(BTreeMap<String, String>, bool),
    /// The error.
    Refused(String),
}

#[test]
fn import_gives_the_values_that_quadlet_gives() {
    let host = host();
    for (nth, (lines, keys, is_whole)) in CASES.iter().enumerate() {
        let text = format!("[Unit]\nDescription=x\n[Container]\nImage=localhost/x:1\n{lines}\n");
        let (outcome, quadlet) = compare(&host, nth, &text);
        let Outcome::Imported(imported, whole) = outcome else { panic!("{lines}") };
        assert_eq!(imported.keys().collect::<Vec<_>>(), *keys, "{lines}");
        assert_eq!(whole, *is_whole, "{lines}");
        let quadlet = quadlet.unwrap_or_else(|| panic!("quadlet refuses {lines}"));
        assert_same(&imported, &quadlet, lines);
    }
}

/// Only with `PSI_QUADLETS`.
#[test]
fn import_reads_real_units_as_quadlet_does() {
    let Some(directory) = std::env::var_os("PSI_QUADLETS") else { return };
    let host = host();
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (nth, file) in files.iter().enumerate() {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let text = text.replace("EnvironmentFile=/", "EnvironmentFile=./");
        provide(&host, nth, &text);
        let (outcome, quadlet) = compare(&host, nth, &text);
        let outcome = match (&outcome, &quadlet) {
            (Outcome::Imported(imported, is_whole), Some(quadlet)) => {
                match difference(imported, quadlet) {
                    Some(key) => format!("DIFFERS in {key}"),
                    None if *is_whole => "the same".into(),
                    None => "the same, some left out".into(),
                }
            }
            (Outcome::Imported(..), None) => "imported; quadlet refuses it".into(),
            (Outcome::Refused(why), Some(quadlet)) => {
                let count = if quadlet.is_empty() { "no variable" } else { "variables" };
                format!("refused; quadlet has {count}: {why}")
            }
            (Outcome::Refused(why), None) => format!("refused by both: {why}"),
        };
        println!("{}: {outcome}", file.display());
        *counts.entry(outcome).or_default() += 1;
    }
    println!("{counts:#?}");
}

/// Imports a unit into a directory of its own, and asks quadlet for its variables.
fn compare(host: &Host, nth: usize, text: &str) -> (Outcome, Option<BTreeMap<String, String>>) {
    let directory = host.instance.directory().join(format!("q{nth}"));
    fs::create_dir_all(&directory).unwrap();
    let unit = directory.join("app.container");
    fs::write(&unit, text).unwrap();
    let path = format!("/q{nth}");
    let args = ["import", "quadlet", unit.to_str().unwrap(), "--project", "myproject", "--path"];
    let args = [&args[..], &[&path, "--make-folder", "--json"]].concat();
    let outcome = host.driver(&args).run();
    let imported = match outcome.code {
        0 | 1 => {
            let report = serde_json::from_slice(&outcome.stdout).unwrap();
            let created = fates(&report).into_iter();
            let keys = created.filter_map(|fate| fate.strip_prefix("created ").map(str::to_owned));
            let value = |key: String| {
                let value = host.driver(&["get", &psi_harness::reference(&path, &key)]).text();
                (key, value)
            };
            Outcome::Imported(keys.map(value).collect(), outcome.code == 0)
        }
        _ => Outcome::Refused(without_names(&outcome.stderr)),
    };
    (imported, variables(&directory))
}

/// The arguments of `--env` in the unit that quadlet generates; `None` if it generates none.
fn variables(directory: &Path) -> Option<BTreeMap<String, String>> {
    let generated = run_quadlet(directory).stdout_text();
    let unit = generated.split("---").skip_while(|part| *part != "app.service").nth(1)?;
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
    let words = words(start);
    let pairs = words.windows(2).filter(|pair| pair[0] == "--env");
    Some(pairs.filter_map(|pair| pair[1].split_once('=')).map(own).collect())
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The words of a command line as systemd splits it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut bytes) = (Vec::new(), None, None, Vec::new());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' if quote.is_none() => {
                if word.take().is_some() {
                    words.push(String::from_utf8(std::mem::take(&mut bytes)).unwrap());
                }
                continue;
            }
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            '\\' => bytes.extend(escape(&mut chars)),
            c => bytes.extend(c.to_string().bytes()),
        }
        word = Some(());
    }
    if word.is_some() {
        words.push(String::from_utf8(bytes).unwrap());
    }
    words
}

fn escape(chars: &mut std::str::Chars) -> Vec<u8> {
    let number = |text: String, base| vec![u8::from_str_radix(&text, base).unwrap()];
    match chars.next().unwrap() {
        'a' => vec![7],
        'b' => vec![8],
        'f' => vec![12],
        'n' => vec![b'\n'],
        'r' => vec![b'\r'],
        's' => vec![b' '],
        't' => vec![b'\t'],
        'v' => vec![11],
        'x' => number(chars.take(2).collect(), 16),
        digit @ '0'..='7' => number(std::iter::once(digit).chain(chars.take(2)).collect(), 8),
        other => other.to_string().into_bytes(),
    }
}

/// A key whose imported value is not quadlet's, once systemd expanded `%%` and `$$`.
fn difference(
    imported: &BTreeMap<String, String>,
    quadlet: &BTreeMap<String, String>,
) -> Option<String> {
    let expanded = |value: &str| value.replace("%%", "%").replace("$$", "$");
    let differs = |(key, value): &(&String, &String)| {
        imported.get(*key).is_some_and(|it| *it != expanded(value))
    };
    quadlet.iter().find(differs).map(|(key, _)| key.clone())
}

#[track_caller]
fn assert_same(
    imported: &BTreeMap<String, String>,
    quadlet: &BTreeMap<String, String>,
    unit: &str,
) {
    assert_eq!(difference(imported, quadlet), None, "{unit}: {imported:?} {quadlet:?}");
    let unknown: Vec<_> = imported.keys().filter(|key| !quadlet.contains_key(*key)).collect();
    assert!(unknown.is_empty(), "{unit}: {unknown:?}");
}

/// The files, units and secrets that a unit names: without them quadlet or psictl would refuse it.
fn provide(host: &Host, nth: usize, text: &str) {
    let directory = host.instance.directory().join(format!("q{nth}"));
    fs::create_dir_all(&directory).unwrap();
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("EnvironmentFile=")
            && !name.contains('%')
            && !name.starts_with('/')
        {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "FROM_A_FILE=1\n").unwrap();
        }
        for name in line.split(['=', ':', ',']) {
            let section = match name.rsplit('.').next().unwrap_or_default() {
                "network" => "[Network]\n",
                "pod" => "[Pod]\n",
                "volume" => "[Volume]\n",
                "image" => "[Image]\nImage=localhost/x:1\n",
                "build" => "[Build]\nImageTag=localhost/x:1\nSetWorkingDirectory=unit\n",
                _ => continue,
            };
            if !name.contains(['/', ' ', '%']) {
                fs::write(directory.join(name), section).unwrap();
            }
        }
        if let Some(spec) = line.strip_prefix("Secret=") {
            let name = spec.trim_matches('"').split(',').next().unwrap();
            if !name.contains(['%', '/', '=', ' ']) && !host.ids().contains_key(name) {
                host.podman.create(name, "a secret");
            }
        }
    }
}

/// An error without the names of this run.
fn without_names(stderr: &str) -> String {
    let line = stderr.lines().last().unwrap_or_default();
    let words = line.split(' ').map(|word| if word.contains('/') { "FILE" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
