//! The values that a new psid, without a provider, serves from a disk.

use std::collections::BTreeMap;
use std::fs;

use super::fixture::Fixture;
use super::trace::without_time;
use super::tree::Tree;
use psi_harness::{Outcome, eventually, id, reference};

/// Each query and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observed(BTreeMap<String, String>);

/// The ids that an operation may use.
pub(super) const IDS: std::ops::RangeInclusive<u32> = 1..=6;

/// Starts psid on a copy of `tree` and makes all queries.
pub(super) fn observe(tree: &Tree) -> Observed {
    let mut fixture = Fixture::set(tree, None);
    put_provider_out_of_reach(&fixture);
    if let Err(log) = fixture.start() {
        panic!("psid does not start:\n{log}");
    }
    let instance = &fixture.instance;
    let mut found = BTreeMap::new();
    let list = instance.driver(&["list"]).text();
    for number in IDS {
        let listed = list.lines().any(|listed| listed == id(number));
        let answer = match listed {
            true => value_or_code(instance.driver(&["lookup"]).id(id(number)).run()),
            false => "exit 66, not listed".into(),
        };
        found.insert(format!("lookup {number}"), answer);
    }
    let outcome = instance.driver(&["get", &reference("/myapp", "B")]).run();
    found.insert("get B".into(), value_or_code(outcome));
    let restorable = instance.driver(&["restore"]).text();
    let ids: Vec<_> = restorable.lines().filter_map(|line| line.split(' ').next()).collect();
    found.insert("restorable".into(), ids.join(" "));
    // The next psid removes what an interrupted one left. (It may write once itself, to record that
    // a value was served.)
    eventually("every remnant to be gone", || {
        Tree::read(&instance.state(), &[]).remnants().is_empty().then_some(())
    });
    found.insert("remnants".into(), String::new());
    let degraded = fixture.psid.as_ref().unwrap().degraded();
    let directory = instance.directory().display().to_string();
    found.insert("degraded".into(), without_time(&degraded.replace(&directory, "")));
    Observed(found)
}

fn value_or_code(outcome: Outcome) -> String {
    match outcome.code {
        0 => String::from_utf8(outcome.stdout).unwrap(),
        code => format!("exit {code}"),
    }
}

/// Nothing listens on port 1.
fn put_provider_out_of_reach(fixture: &Fixture) {
    let config = fixture.instance.config();
    let text = fs::read_to_string(&config).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("api_url = ") {
        true => "api_url = \"http://127.0.0.1:1\"",
        false => line,
    });
    fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
}

impl Observed {
    /// The result of a lookup of an id.
    pub(super) fn value(&self, number: u32) -> Option<&str> {
        let answer = &self.0[&format!("lookup {number}")];
        (!answer.starts_with("exit ")).then_some(answer)
    }

    /// Whether `other` has the same answers, apart from the accepted messages.
    pub(super) fn is_same(&self, other: &Self, borne: &[&str]) -> bool {
        let without = |observed: &Self| {
            let mut answers = observed.0.clone();
            let is_borne = |line: &str| borne.iter().any(|words| line.contains(words));
            let reasons = answers["degraded"].lines().filter(|line| !is_borne(line));
            let reasons = reasons.collect::<Vec<_>>().join("\n");
            answers.insert("degraded".into(), reasons);
            answers
        };
        without(self) == without(other)
    }

    /// The answers that differ in `other`.
    pub(super) fn differences(&self, other: &Self) -> String {
        let differing = self.0.iter().filter(|(question, answer)| other.0[*question] != **answer);
        differing
            .map(|(question, answer)| {
                format!("{question}: {answer:?}, not {:?}", other.0[question])
            })
            .collect::<Vec<_>>()
            .join("; ")
    }
}
