//! The mistakes of a new user, and the sentence that answers each: also the table in troubleshooting.md, which
//! `UPDATE_GENERATED=1 cargo test -p psi-tests --test init mistakes` writes.

mod answers;
mod environment;
mod host;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use parking_lot::Mutex;

use psi_harness::repository;

use super::staged_host::StagedHost;

/// The mistakes, in the order of the table.
const MISTAKES: [&str; 39] = [
    "wrong client secret",
    "client secret in quotes",
    "empty file of the client secret",
    "no file of the client secret",
    "project's name in place of its id",
    "id of a project that does not exist",
    "identity that is no member of the project",
    "environment's name in place of its slug",
    "directory that does not exist",
    "directory without a leading slash",
    "workload named like a unit's file",
    "workload named with a blank",
    "workload of another project",
    "URL without https://",
    "URL of another server",
    "http to another host",
    "certificate of a CA of one's own",
    "CA in a directory that psid does not see",
    "host name that does not exist",
    "provider down at the first start",
    "missing flags",
    "no terminal and no --yes",
    "no place for the recovery key",
    "file of the recovery key exists",
    "typo in the config",
    "flags that differ from the config",
    "config that root alone can read",
    "credential of another host",
    "no TPM",
    "ordinary user before systemd 256",
    "package not installed",
    "podman not installed",
    "other driver in containers.conf",
    "store before init",
    "psid awake already",
    "umask 077",
    "no systemd",
    "psid's unit masked",
    "full disk",
];
const BEGIN: &str = "| mistake | psi's answer |\n| --- | --- |\n";

/// Tests run at the same time, and each may write its row.
static TABLE: Mutex<()> = Mutex::new(());

/// The answer to a mistake is the one in the table.
#[track_caller]
fn assert_answer(host: &StagedHost, mistake: &str, said: &str) {
    assert!(MISTAKES.contains(&mistake), "'{mistake}' is not in MISTAKES");
    let answer = readable(host, said);
    let _lock = TABLE.lock();
    let mut rows = rows();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        rows.insert(mistake.to_owned(), answer);
        return write(&rows);
    }
    assert_eq!(rows.get(mistake), Some(&answer), "'{mistake}' in {}", path().display());
}

/// A sentence without what differs from run to run, as a cell of the table.
fn readable(host: &StagedHost, said: &str) -> String {
    let said = said.trim_end().replace(host.infisical.url(), "https://infisical.example");
    let authority = host.infisical.url().rsplit('/').next().unwrap();
    let said = said.replace(authority, "infisical.example").replace(&host.files_prefix(), "");
    let words = said.split(' ').map(|word| {
        // `step 1 of 10`, and psi-driver's id of a secret.
        let is_id = word.trim_end_matches(':').len() == 25 && word.ends_with(':');
        if is_id { "ID:" } else { word }
    });
    words.collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn path() -> PathBuf {
    repository().join("contrib/doc/troubleshooting.md")
}

/// The document before the table, its rows, and what follows.
fn parts() -> (String, String, String) {
    let text = fs::read_to_string(path()).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("there is no table of mistakes");
    let (rows, after) = rest.split_once("\n\n").unwrap();
    (before.to_owned(), rows.to_owned(), after.to_owned())
}

fn rows() -> BTreeMap<String, String> {
    let rows = parts().1;
    let cells = rows.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    cells
        .filter_map(|cells| cells.split_once(" | "))
        .map(|(mistake, answer)| (mistake.to_owned(), answer.to_owned()))
        .collect()
}

fn write(rows: &BTreeMap<String, String>) {
    let (before, _, after) = parts();
    let lines = MISTAKES
        .iter()
        .filter_map(|mistake| rows.get(*mistake).map(|answer| format!("| {mistake} | {answer} |")));
    let lines: Vec<String> = lines.collect();
    fs::write(path(), format!("{before}{BEGIN}{}\n\n{after}", lines.join("\n"))).unwrap();
}

#[test]
fn table_has_each_mistake() {
    let table = parts().1;
    let listed: Vec<&str> = table
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| ")?.split_once(" | ")?.0))
        .collect();
    assert_eq!(listed, MISTAKES);
}
