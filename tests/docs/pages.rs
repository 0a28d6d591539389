//! The man pages: each page that a document or a page names exists, and each page has its sections.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{assert_none, documents, files, read};

/// Pages of other packages that psi's documents name.
const OTHERS: [&str; 16] = [
    "containers.conf(5)",
    "journalctl(1)",
    "loginctl(1)",
    "podman(1)",
    "podman-secret(1)",
    "podman-secret-create(1)",
    "podman-systemd.unit(5)",
    "pkcs11-tool(1)",
    "systemctl(1)",
    "systemd-creds(1)",
    "systemd.exec(5)",
    "systemd.preset(5)",
    "systemd.socket(5)",
    "systemd.unit(5)",
    "sysusers.d(5)",
    "tmpfiles.d(5)",
];

/// psi's own pages, as `name(section)`.
fn own_pages() -> BTreeSet<String> {
    let pages = ["1", "5", "7", "8"].into_iter().flat_map(|section| files("contrib/man", section));
    pages.map(|page| title(&page)).collect()
}

fn title(page: &Path) -> String {
    let name = page.file_name().unwrap().to_str().unwrap();
    let (name, section) = name.rsplit_once('.').unwrap();
    format!("{name}({section})")
}

#[test]
fn every_man_page_that_is_named_exists() {
    let own = own_pages();
    assert!(own.len() > 30, "{own:?}");
    let pages = ["1", "5", "8"].into_iter().flat_map(|section| files("contrib/man", section));
    let paths = pages.chain(documents().into_iter().map(|document| document.path));
    let problems: Vec<_> = paths
        .flat_map(|path| {
            let named = named(&read(&path));
            let missing = named
                .into_iter()
                .filter(|page| !own.contains(page) && !OTHERS.contains(&page.as_str()));
            missing
                .map(|page| format!("{}: there is no {page}", path.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_none(&problems);
}

/// Each `name(section)` in a text, without roff's escapes.
fn named(text: &str) -> BTreeSet<String> {
    let text = text.replace("\\-", "-").replace("\\fR", "").replace("\\fB", "").replace("\\fI", "");
    let mut named = BTreeSet::new();
    for (at, _) in text.match_indices('(') {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._@".contains(c);
        let section = text[at + 1..].split(')').next().unwrap_or_default();
        let start = text[..at].rfind(|c: char| !is_name(c)).map_or(0, |start| start + 1);
        let name = &text[start..at];
        if matches!(section, "1" | "5" | "7" | "8") && !name.is_empty() {
            named.insert(format!("{name}({section})"));
        }
    }
    named
}

#[test]
fn a_page_that_does_not_exist_is_named() {
    let text = "see \\fBpsictl\\-gc\\fR(1), psi.toml(5) and f(x)";
    assert_eq!(named(text), ["psictl-gc(1)", "psi.toml(5)"].map(str::to_owned).into());
    assert!(!own_pages().contains("psictl-no-such-command(1)"));
}
