//! The messages, tests and types that the documents name exist in the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::markdown::Document;
use crate::{assert_none, read, repository, sources};

fn document(name: &str) -> Document {
    let path = repository().join("contrib/doc").join(name);
    Document::parse(&path, &read(&path))
}

/// The code spans of a document's headings of the third level.
fn messages(document: &Document) -> Vec<String> {
    let third = document.headings.iter().filter(|(level, _)| *level == 3);
    third.flat_map(|(_, title)| title.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_message_in_troubleshooting_is_printed_by_a_program() {
    let sources = sources::below(&["daemon/src", "driver/src", "common/src"]);
    let texts: Vec<String> =
        sources.iter().flat_map(|source| sources::texts(&source.text)).collect();
    let messages = messages(&document("troubleshooting.md"));
    assert!(messages.len() > 40, "{}", messages.len());
    assert_none(&unprinted(&messages, &texts));
}

/// The messages whose fixed parts are not, in this order, in one text of the sources.
fn unprinted(messages: &[String], texts: &[String]) -> Vec<String> {
    let is_in = |message: &str, text: &str| {
        let mut rest = text;
        message.split('…').map(str::trim).filter(|part| !part.is_empty()).all(|part| {
            let found = rest.find(part);
            rest = found.map_or("", |at| &rest[at + part.len()..]);
            found.is_some()
        })
    };
    let printed = |message: &&String| !texts.iter().any(|text| is_in(message, text));
    messages.iter().filter(printed).map(|message| format!("no program prints: {message}")).collect()
}

#[test]
fn every_claim_in_the_threat_model_names_an_existing_test() {
    let document = document("threat-model.md");
    let named = document.spans.iter().filter(|span| {
        let is_word = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        span.text.split_once("::").is_some_and(|(file, test)| is_word(file) && is_word(test))
    });
    let named: Vec<_> = named.map(|span| (document.at(span.line), span.text.clone())).collect();
    assert!(named.len() > 30, "{}", named.len());
    let existing = existing_tests(&sources::below(&["daemon", "driver", "common", "tests"]));
    assert_none(&missing_tests(&named, &existing));

    // Each row of the table of adversaries has one.
    let rows = read(&document.path);
    let rows = rows.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    for row in rows.skip(1) {
        assert!(row.rsplit('|').nth(1).is_some_and(|last| last.contains("::")), "no test: {row}");
    }
}

/// Each test as its file's and its directory's name, `::` and its own.
fn existing_tests(sources: &[sources::Source]) -> BTreeSet<String> {
    let mut existing = BTreeSet::new();
    for source in sources {
        let names = [source.path.file_stem(), source.path.parent().and_then(Path::file_name)];
        for test in sources::tests(&source.text) {
            let names = names.iter().flatten().filter_map(|name| name.to_str());
            existing.extend(names.map(|name| format!("{name}::{test}")));
        }
    }
    existing
}

fn missing_tests(named: &[(String, String)], existing: &BTreeSet<String>) -> Vec<String> {
    let missing = named.iter().filter(|(_, test)| !existing.contains(test));
    missing.map(|(at, test)| format!("{at}: there is no test {test}")).collect()
}

#[test]
fn every_type_in_the_glossary_exists() {
    let sources = sources::below(&["daemon/src", "driver/src", "common/src"]);
    let existing: BTreeSet<String> =
        sources.iter().flat_map(|source| sources::types(&source.text)).collect();
    let document = document("glossary.md");
    let is_type = |text: &str| {
        text.starts_with(char::is_uppercase)
            && text.contains(char::is_lowercase)
            && text.chars().all(char::is_alphanumeric)
    };
    let named = document.spans.iter().filter(|span| is_type(&span.text));
    let named: Vec<_> = named.map(|span| (document.at(span.line), span.text.clone())).collect();
    assert!(named.len() > 40, "{}", named.len());
    assert_none(&missing_types(&named, &existing));
}

fn missing_types(named: &[(String, String)], existing: &BTreeSet<String>) -> Vec<String> {
    let missing = named.iter().filter(|(_, name)| !existing.contains(name));
    missing.map(|(at, name)| format!("{at}: there is no type {name}")).collect()
}

/// Hosts of package and image registries, in two parts, so that this file does not name one.
const REGISTRIES: [(&str, &str); 10] = [
    ("crates", "io"),
    ("deb", "debian.org"),
    ("dl-cdn", "alpinelinux.org"),
    ("docker", "io"),
    ("files", "pythonhosted.org"),
    ("ghcr", "io"),
    ("pypi", "org"),
    ("quay", "io"),
    ("registry", "npmjs.org"),
    ("static", "rust-lang.org"),
];

/// Mirrors come from the machine's own configuration. Cargo writes its index into lock files.
#[test]
fn no_file_names_a_package_registry() {
    let mut files = Vec::new();
    visit(repository(), &mut files);
    assert!(files.len() > 500, "{}", files.len());
    let named = files.iter().filter_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        Some(format!("{}: {}", path.display(), registry_in(&text)?))
    });
    assert_none(&named.collect::<Vec<_>>());
}

/// The files of a directory and those below it, without git's, cargo's and lock files.
fn visit(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if ["target", ".git", "Cargo.lock"].contains(&name) {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            visit(&path, files);
        } else if path.is_file() {
            files.push(path);
        }
    }
}

/// The registry's host that a text names.
fn registry_in(text: &str) -> Option<String> {
    let mut hosts = REGISTRIES.iter().map(|(name, domain)| format!("{name}.{domain}"));
    hosts.find(|host| text.contains(host.as_str()))
}

#[test]
fn checker_reports_unknown_name() {
    let texts = ["no connection to psid at {}: {cause}".to_owned()];
    let of = |message: &str| unprinted(&[message.to_owned()], &texts).len();
    assert_eq!(of("no connection to psid at …"), 0);
    assert_eq!(of("connection … at … :"), 0);
    assert_eq!(of("no connexion to psid at …"), 1);
    assert_eq!(of("at … connection"), 1);

    let path = "tests/lookup/bytes.rs".into();
    let text = "#[test]\nfn it_holds() {}\nfn helper() {}\n".to_owned();
    let existing = existing_tests(&[sources::Source { path, text }]);
    let named = ["bytes::it_holds", "lookup::it_holds", "bytes::helper", "words::it_holds"]
        .map(|name| (String::new(), name.to_owned()));
    assert_eq!(missing_tests(&named, &existing).len(), 2);

    let existing = ["Cache".to_owned()].into();
    let named = ["Cache", "Doubts"].map(|name| (String::new(), name.to_owned()));
    assert_eq!(missing_types(&named, &existing), [": there is no type Doubts"]);

    let (name, domain) = REGISTRIES[0];
    assert!(registry_in(&format!("https://{name}.{domain}/x")).is_some());
    assert!(registry_in("Image=registry.example/busybox:1").is_none());
}
