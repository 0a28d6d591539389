//! Each relative link leads to a file, and each anchor to a heading of it.

use std::path::Path;

use crate::documents;
use crate::markdown::Document;

#[test]
fn every_link_in_the_documents_resolves() {
    let documents = documents();
    let anchors = |path: &Path| {
        let read = std::fs::read_to_string(path).ok()?;
        Some(Document::parse(path, &read).anchors)
    };
    let problems: Vec<_> = documents.iter().flat_map(|d| problems(d, &anchors)).collect();
    crate::assert_none(&problems);
}

/// The links of a document that lead nowhere; `anchors` returns those of an existing file.
fn problems(document: &Document, anchors: &dyn Fn(&Path) -> Option<Vec<String>>) -> Vec<String> {
    let mut problems = Vec::new();
    for link in &document.links {
        if link.target.starts_with("https://") {
            continue;
        }
        let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
        let path = match file {
            "" => document.path.clone(),
            file => document.path.parent().unwrap().join(file),
        };
        let at = document.at(link.line);
        match anchors(&path) {
            None if path.is_dir() => {}
            None => problems.push(format!("{at}: there is no {file}")),
            Some(anchors) if !anchor.is_empty() && !anchors.iter().any(|known| known == anchor) => {
                problems.push(format!("{at}: {} has no heading #{anchor}", path.display()));
            }
            Some(_) => {}
        }
    }
    problems
}

#[test]
fn every_file_named_in_the_documents_exists() {
    let documents = documents();
    assert!(documents.iter().map(|document| files(document).len()).sum::<usize>() > 25);
    let problems: Vec<_> = documents.iter().flat_map(missing_files).collect();
    crate::assert_none(&problems);
}

/// The paths of this repository in code spans and in blocks without a language, each with its line.
fn files(document: &Document) -> Vec<(usize, String)> {
    let spans = document.spans.iter().map(|span| (span.line, &span.text));
    let code = document.code.iter().filter(|code| code.language.is_empty());
    let code = code.map(|code| (code.line, &code.text));
    let mut files = Vec::new();
    for (line, text) in spans.chain(code) {
        let words = text.split(|c: char| c.is_whitespace() || "(),;".contains(c));
        let is_path = |word: &&str| {
            ["common/", "contrib/", "daemon/", "driver/", "proto/", "tests/"]
                .iter()
                .any(|top| word.starts_with(top))
        };
        files.extend(words.filter(is_path).map(|word| (line, word.to_owned())));
    }
    files
}

fn missing_files(document: &Document) -> Vec<String> {
    let missing = |(_, file): &(usize, String)| !crate::repository().join(file).exists();
    let problem = |(line, file)| format!("{}: there is no {file}", document.at(line));
    files(document).into_iter().filter(missing).map(problem).collect()
}

#[test]
fn checker_reports_missing_file() {
    let text = "`tests/docs/links.rs` `tests/gone.rs`\n```\n → driver/src/lib.rs  x\n → driver/gone.rs (y)\n```\n";
    let document = Document::parse(Path::new("x.md"), text);
    let missing = missing_files(&document);
    assert_eq!(
        missing,
        ["x.md:1: there is no tests/gone.rs", "x.md:4: there is no driver/gone.rs"]
    );
}

#[test]
fn checker_reports_broken_link() {
    let text = "# Here\n[a](#here) [b](other.md#there) [c](https://example.org/x)\n\
        [d](#nowhere) [e](other.md#nowhere) [f](gone.md) [g](http://example.org)\n";
    let document = Document::parse(Path::new("/base/x.md"), text);
    let anchors = |path: &Path| match path.to_str().unwrap() {
        "/base/x.md" => Some(vec!["here".to_owned()]),
        "/base/other.md" => Some(vec!["there".to_owned()]),
        _ => None,
    };
    let problems = problems(&document, &anchors);
    assert_eq!(problems.len(), 4, "{problems:?}");
}
