//! The man pages: each page that a document or a page names exists, and each page has its sections.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{assert_none, commands, documents, files, read};

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
fn every_named_man_page_exists() {
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

#[test]
fn every_page_has_its_sections_and_valid_examples() {
    let pages = ["1", "8"].into_iter().flat_map(|section| files("contrib/man", section));
    let problems: Vec<String> = pages
        .flat_map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            page_problems(&read(&path)).into_iter().map(move |why| format!("{name}: {why}"))
        })
        .collect();
    assert_none(&problems);
}

const SECTIONS: [&str; 7] =
    ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "FILES", "EXIT STATUS", "SEE ALSO"];

/// The sections that a page lacks, a description that repeats the name, and examples that do not parse.
fn page_problems(page: &str) -> Vec<String> {
    let page = page.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\e", "\\");
    let sections: Vec<(&str, &str)> = page
        .split("\n.SH ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .map(|(title, text)| (title.trim_matches('"'), text.trim()))
        .collect();
    let find = |title: &str| sections.iter().find(|(known, _)| *known == title);
    let mut problems: Vec<String> = SECTIONS
        .iter()
        .filter(|title| find(title).is_none_or(|(_, text)| text.is_empty()))
        .map(|title| format!("there is no {title}"))
        .collect();
    if let (Some((_, name)), Some((_, text))) = (find("NAME"), find("DESCRIPTION")) {
        let about = name.split_once(" - ").map_or(*name, |(_, about)| about);
        if text.trim_start_matches(".PP\n").starts_with(about) {
            problems.push("DESCRIPTION repeats NAME".to_owned());
        }
    }
    let examples = find("EXAMPLES").map_or("", |(_, text)| text);
    for example in examples.split(".nf\n").skip(1) {
        for line in example.split("\n.fi").next().unwrap_or_default().lines() {
            problems.extend(commands::check_line(line, commands::Place::Block).err());
        }
    }
    problems
}

#[test]
fn checker_reports_missing_section_and_bad_example() {
    let page = ".TH x 1\n.SH NAME\nx \\- does y\n.SH SYNOPSIS\nx\n.SH \"DESCRIPTION\"\n.PP\ndoes y\n\
        .SH EXAMPLES\n.PP\nOne:\n.nf\npsictl no\\-such\\-command\n.fi\n.SH FILES\n.SH \"EXIT STATUS\"\n0\n";
    let problems = page_problems(page);
    assert_eq!(problems[..2], ["there is no FILES", "there is no SEE ALSO"]);
    assert_eq!(problems[2], "DESCRIPTION repeats NAME");
    assert!(problems[3].contains("no-such-command"), "{problems:?}");
    assert_eq!(problems.len(), 4, "{problems:?}");
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
fn checker_reports_missing_page() {
    let text = "see \\fBpsictl\\-gc\\fR(1), psi.toml(5) and f(x)";
    assert_eq!(named(text), ["psictl-gc(1)", "psi.toml(5)"].map(str::to_owned).into());
    assert!(!own_pages().contains("psictl-no-such-command(1)"));
}
