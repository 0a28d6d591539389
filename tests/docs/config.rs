//! Each key that psid accepts is documented in psi.toml and psi.toml(5), and each documented key is accepted.

use std::collections::BTreeSet;
use std::path::Path;

use psi_daemon::testing::config::Config;

use crate::{assert_none, read, repository};

/// A key that psid does not know: the error names the ones that it knows there.
const PROBE: &str = "psi-docs-probe";

#[test]
fn psi_toml_documents_every_key_and_no_other() {
    let text = read(&repository().join("contrib/config/psi.toml"));
    let documented = documented(&text);
    assert!(documented.len() > 35, "{documented:?}");
    assert_none(&undocumented(&text, &documented));
    assert_none(&unknown(&documented));
}

#[test]
fn psi_toml_page_documents_every_key() {
    let page = read(&repository().join("contrib/man/psi.toml.5"));
    let documented = documented(&read(&repository().join("contrib/config/psi.toml")));
    assert_none(&not_on_page(&page, &documented));
}

/// The tables and keys that the page has no section or entry for; the members of a source and of a file are in the entry
/// of `secrets` and `mount`.
fn not_on_page(page: &str, documented: &BTreeSet<String>) -> Vec<String> {
    let page = page.replace("\\-", "-");
    let has = |key: &&String| {
        let table = format!(".SS [{}]", key.replace('*', "NAME"));
        let last = key.rsplit('.').next().unwrap_or_default();
        let entry = format!(".B {last}");
        page.lines().any(|line| line == table || line == entry)
            || (is_member(key) && page.contains(last))
    };
    documented.iter().filter(|key| !has(key)).map(|key| format!("not on the page: {key}")).collect()
}

/// The keys of a config file with `#:` examples and `#|` alternatives, with their tables; `*` is a name that
/// the admin chooses.
fn documented(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut table = String::new();
    // An array over several lines.
    let mut open = String::new();
    for line in text.lines() {
        let line = ["#:", "#|"].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
        if !open.is_empty() || line.ends_with(" = [") {
            open.push_str(line);
            open.push('\n');
            if line != "]" {
                continue;
            }
        }
        let line = if open.is_empty() { line.to_owned() } else { std::mem::take(&mut open) };
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            table = general(name.0);
            keys.insert(table.clone());
        } else if let Ok(parsed) = toml::from_str::<toml::Table>(&line) {
            for (key, value) in parsed {
                let path = format!("{table}.{key}");
                keys.extend(inner(&value).map(|inner| format!("{path}.{inner}")));
                keys.insert(path);
            }
        }
    }
    keys
}

/// The keys of the inline tables in an array.
fn inner(value: &toml::Value) -> impl Iterator<Item = String> {
    let elements = value.as_array().into_iter().flatten();
    elements.filter_map(toml::Value::as_table).flat_map(toml::Table::keys).cloned()
}

/// Whether a key is a member of a table in an array.
fn is_member(key: &str) -> bool {
    [".secrets.", ".mount."].iter().any(|array| key.contains(array))
}

/// A table's path with `*` for the names that the admin chooses.
fn general(table: &str) -> String {
    let parts: Vec<&str> = table.split('.').collect();
    let is_chosen = |index: usize| match parts[0] {
        "workloads" => index == 1,
        "providers" => index == 3 && parts[2] == "projects",
        _ => false,
    };
    if let ["providers", "infisical", "projects", _, "auth"] = parts[..] {
        return "providers.infisical.auth".to_owned();
    }
    let part = |(index, part): (usize, &&str)| if is_chosen(index) { "*" } else { part }.to_owned();
    parts.iter().enumerate().map(part).collect::<Vec<_>>().join(".")
}

/// The keys that psid knows in a table, from its answer to one that it does not know.
fn accepted(table: &str) -> Vec<String> {
    let config = match table.replace('*', "x") {
        table if table.is_empty() => format!("{PROBE} = 1\n"),
        table if is_member(&format!("{table}.")) => {
            let (workload, array) = table.rsplit_once('.').unwrap_or_default();
            format!("[{workload}]\nprovider = \"infisical\"\n{array} = [{{ {PROBE} = 1 }}]\n")
        }
        table => format!("[{table}]\n{PROBE} = 1\n"),
    };
    let error = Config::parse(&config, Path::new("config.toml")).unwrap_err().to_string();
    let Some((_, known)) = error.split_once(&format!("unknown field `{PROBE}`, expected")) else {
        // The table itself is not one of psid's.
        return Vec::new();
    };
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The tables in which keys are documented; the first is the file itself.
fn tables(documented: &BTreeSet<String>) -> BTreeSet<String> {
    let parents = documented.iter().filter_map(|key| key.rsplit_once('.'));
    std::iter::once(String::new()).chain(parents.map(|(table, _)| table.to_owned())).collect()
}

fn undocumented(text: &str, documented: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for table in &tables(documented) {
        for key in accepted(table) {
            let path = if table.is_empty() { key } else { general(&format!("{table}.{key}")) };
            let is_documented = documented
                .iter()
                .any(|known| known == &path || known.starts_with(&format!("{path}.")));
            // An alias is named in a comment.
            if !is_documented && !text.contains(&format!("[{path}]")) {
                problems.push(format!("psi.toml does not document {path}"));
            }
        }
    }
    problems
}

fn unknown(documented: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for key in documented {
        let (table, last) = key.rsplit_once('.').unwrap_or(("", key));
        let is_chosen = last == "*" || key.ends_with(".projects") || key == "workloads";
        if !is_chosen && !accepted(table).iter().any(|known| known == last) {
            problems.push(format!("psi.toml documents {key}, which psid does not know"));
        }
    }
    problems
}

#[test]
fn checker_reports_key_missing_on_the_page() {
    let page = ".SS [cache]\n.TP\n.B max_stale\nA span.\n";
    let keys = ["cache", "cache.max_stale", "cache.enabled", "providers"].map(str::to_owned).into();
    assert_eq!(not_on_page(page, &keys).len(), 2);
}

#[test]
fn checker_reports_undocumented_or_unknown_key() {
    let text = "[cache]\n# About it.\n#:backend = \"tpm\"\n#|no_such_key = 1\n\
        [workloads.myapp]\n#:secrets = [\n#:  { project = \"p\", no_such_member = 1 },\n#:]\n";
    let documented = documented(text);
    assert!(documented.contains("workloads.*.secrets.project"), "{documented:?}");
    let unknown = unknown(&documented);
    assert_eq!(unknown.len(), 2, "{unknown:?}");
    assert!(unknown[0].contains("cache.no_such_key"), "{unknown:?}");
    let undocumented = undocumented(text, &documented);
    for key in ["providers", "cache.max_stale", "workloads.*.provider", "workloads.*.secrets.path"]
    {
        assert!(
            undocumented.iter().any(|line| line.ends_with(&format!(" {key}"))),
            "{key}: {undocumented:?}"
        );
    }
}
