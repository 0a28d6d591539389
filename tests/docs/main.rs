//! The documents as tests: each command in them parses, each link leads somewhere, and each config key,
//! man page, message, type and test that they name exists. Every check has a test that shows it failing.

#![allow(clippy::unwrap_used, reason = "a panic is the failure of a test")]

mod commands;
mod config;
mod links;
mod markdown;
mod names;
mod pages;
mod shell;
mod sources;

use std::path::{Path, PathBuf};

use markdown::Document;

/// The repository's root.
fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The files of a directory whose names end in `.extension`, sorted.
fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(repository().join(directory))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|file| file.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// README, CONTRIBUTING, CHANGELOG and the manual, in this order.
fn documents() -> Vec<Document> {
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .map(|name| repository().join(name))
        .into_iter()
        .chain(files("contrib/doc", "md"))
        .map(|path| Document::parse(&path, &read(&path)))
        .collect()
}

/// Fails with one line for each problem.
#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// The words of a document, as `wc -w` counts them.
fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[test]
fn readme_has_at_most_900_words() {
    let count = words(&read(&repository().join("README.md")));
    assert!(count <= 900, "README.md has {count} words");
}

#[test]
fn word_count_matches_wc() {
    assert_eq!(words("# A title\n\n- one, two;\tthree\n"), 7);
}

#[test]
fn docs_directory_is_absent_and_every_document_is_linked() {
    assert!(!repository().join("docs").exists(), "docs/ exists: the manual is contrib/doc");
    let documents = documents();
    let linked: Vec<&str> =
        documents.iter().flat_map(|document| &document.links).map(|link| &*link.target).collect();
    for path in files("contrib/doc", "md") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            linked.iter().any(|link| link.split('#').next().unwrap().ends_with(name)),
            "no document links to {name}"
        );
    }
}
