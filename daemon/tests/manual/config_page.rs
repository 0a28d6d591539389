//! psi.toml(5), from the comments of psi.toml.

use std::fmt::Write;

/// A table of the config with its comment and its keys, each with theirs.
struct Table {
    name: String,
    comments: Vec<String>,
    keys: Vec<(String, String)>,
}

/// The page.
pub(crate) fn page(config: &str) -> String {
    let (intro, tables) = parse(config);
    let mut page = String::from(
        ".\\\" Generated from contrib/config/psi.toml by `make generate`.\n\
         .TH psi.toml 5 \"\" psi \"File formats\"\n\
         .SH NAME\n\
         psi.toml \\- configuration file of psid\n\
         .SH SYNOPSIS\n\
         /etc/psi/config.toml, or ~/.config/psi/config.toml for a user's psid\n\
         .SH DESCRIPTION\n",
    );
    paragraphs(&mut page, &intro);
    for table in &tables {
        let _ = writeln!(page, ".SS [{}]", escaped(&table.name));
        paragraphs(&mut page, &table.comments);
        for (key, comment) in &table.keys {
            let _ = writeln!(page, ".TP\n.B {}\n{}", escaped(key), escaped(comment));
        }
    }
    page.push_str(include_str!("../../../contrib/man/sections/psi.toml.5"));
    page
}

fn paragraphs(page: &mut String, paragraphs: &[String]) {
    for paragraph in paragraphs {
        let _ = writeln!(page, ".PP\n{}", escaped(paragraph));
    }
}

/// The introduction, and the tables in order; a table that is there again adds to the first one.
fn parse(config: &str) -> (Vec<String>, Vec<Table>) {
    let mut intro = Vec::new();
    let mut tables: Vec<Table> = Vec::new();
    let mut comments: Vec<String> = Vec::new();
    let mut current = 0;
    for line in config.lines().chain([""]) {
        let value = ["#:", "#|"].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
        if let Some((name, _)) = value.strip_prefix('[').and_then(|line| line.split_once(']')) {
            let name = general(name);
            current = tables.iter().position(|table| table.name == name).unwrap_or_else(|| {
                tables.push(Table { name, comments: Vec::new(), keys: Vec::new() });
                tables.len() - 1
            });
            tables[current].comments.append(&mut comments);
        } else if let Some(comment) = value.strip_prefix('#') {
            match comments.last_mut() {
                Some(last) if !comment.trim().is_empty() && !last.is_empty() => {
                    last.push(' ');
                    last.push_str(comment.trim());
                }
                _ => comments.push(comment.trim().to_owned()),
            }
        } else if let Some((key, _)) = value.split_once(" = ") {
            if !comments.is_empty() {
                tables[current].keys.push((key.to_owned(), comments.join(" ")));
            }
            comments.clear();
        } else if tables.is_empty() {
            intro.append(&mut comments);
        }
    }
    intro.retain(|paragraph: &String| !paragraph.is_empty());
    for table in &mut tables {
        table.comments.retain(|paragraph| !paragraph.is_empty());
    }
    (intro, tables)
}

/// A table's name, with NAME for what the admin chooses.
fn general(table: &str) -> String {
    let parts: Vec<&str> = table.split('.').collect();
    match parts[..] {
        ["providers", "infisical", "projects", _, "auth"] => "providers.infisical.auth".to_owned(),
        ["providers", "infisical", "projects", _] => "providers.infisical.projects.NAME".to_owned(),
        ["workloads", _] => "workloads.NAME".to_owned(),
        _ => table.to_owned(),
    }
}

/// Text as roff: hyphens and backslashes are literal, and no line begins a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[test]
fn every_key_and_table_is_on_the_page_once() {
    let config = "# About the file.\n#\n# More.\n\n# The cache.\n[cache]\n# On or off. Default: true.\nenabled = true\n\
        # A span - of time.\n#:max_stale = \"7d\"\n#|other = 1\n\n\
        # A.\n#:[workloads.a]\n# Key.\n#:x = 1\n# B.\n#:[workloads.b]\n#:x = 1\n";
    let page = page(config);
    assert!(
        page.contains(".SH DESCRIPTION\n.PP\nAbout the file.\n.PP\nMore.\n.SS [cache]\n"),
        "{page}"
    );
    assert!(
        page.contains(".PP\nThe cache.\n.TP\n.B enabled\nOn or off. Default: true.\n"),
        "{page}"
    );
    assert!(page.contains(".B max_stale\nA span \\- of time.\n"), "{page}");
    assert!(page.contains(".SS [workloads.NAME]\n.PP\nA.\n.PP\nB.\n.TP\n.B x\nKey.\n"), "{page}");
    assert_eq!(page.matches(".B x\n").count(), 1, "{page}");
}
