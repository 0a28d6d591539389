//! The production lines of the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use psi_harness::repository;

/// One file, as its rules see it.
pub(super) struct Source {
    /// Its path in the repository.
    pub(super) path: String,
    /// Its lines without comments and without tests.
    pub(super) code: String,
}

/// Every production source of the four crates.
pub(super) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["common/src", "daemon/src", "driver/src", "proto/src"] {
        collect(&repository().join(folder), &mut found);
    }
    assert!(found.len() > 30, "the sources are elsewhere: {} files", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.ends_with("tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            let name = path.strip_prefix(repository()).unwrap().display().to_string();
            found
                .push(Source { path: name, code: production(&fs::read_to_string(&path).unwrap()) });
        }
    }
}

/// Test modules stand at the end of their file.
fn production(text: &str) -> String {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

impl Source {
    /// Whether the code has `word`, not as a part of a longer one.
    pub(super) fn has(&self, word: &str) -> bool {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(word).any(|(at, _)| {
            let (before, after) = (&self.code[..at], &self.code[at + word.len()..]);
            !before.ends_with(part) && !after.starts_with(part)
        })
    }

    /// The rooms of its own crate that it names: what follows `crate::`.
    pub(super) fn rooms(&self) -> BTreeSet<String> {
        let mut rooms = BTreeSet::new();
        for (at, found) in self.code.match_indices("crate::") {
            let rest = &self.code[at + found.len()..];
            match rest.strip_prefix('{') {
                Some(list) => {
                    let list = &list[..list.find("};").unwrap_or(list.len())];
                    rooms.extend(top_level(list).map(first_name));
                }
                None => {
                    rooms.insert(first_name(rest));
                }
            }
        }
        rooms
    }

    /// The room it is in: `cache` for daemon/src/cache.rs, `grpc` for all in daemon/src/grpc.
    pub(super) fn room(&self) -> &str {
        let below = self.path.split_once("/src/").map_or("", |(_, below)| below);
        below.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }
}

/// The parts of a list that are not within braces of their own.
fn top_level(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    list.split(move |c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn a_source_is_read_as_its_rules_need_it() {
    let text = "//! crate::doc\nuse crate::{cache::{A, B}, clock, key::tpm};\nfn f() { crate::files::g(); }\n\
                // crate::comment\nlet not_reqwest = reqwests;\n#[cfg(test)]\nmod tests { use crate::service; }\n";
    let source = Source { path: "daemon/src/keys/tpm.rs".into(), code: production(text) };
    let rooms: Vec<_> = source.rooms().into_iter().collect();
    assert_eq!(rooms, ["cache", "clock", "files", "key"]);
    assert_eq!(source.room(), "key");
    assert!(source.has("not_reqwest") && !source.has("reqwest"));
}
