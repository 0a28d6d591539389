use psi_common::SecretBytes;

use super::*;
use crate::lookup::SourceValue;
use crate::model::reference::Namespace;
use crate::provider::Source;

fn key_at(path: &str, key: &str) -> CacheKey {
    CacheKey::new(Namespace::new(&["r"]), path, key)
}

fn found(key: &str) -> SourceKey {
    let value = SourceValue::Listed(SecretBytes::new(b"v".to_vec()));
    SourceKey { key: key_at("/", key), value, shadowed: Vec::new() }
}

fn source(path: &str, selected: &[(&str, &str)]) -> WorkloadSource {
    let source = Source { project: "p".into(), path: path.into(), recursive: false };
    let selected = selected.iter().map(|(variable, key)| ((*variable).into(), (*key).into()));
    let selected: BTreeMap<String, String> = selected.collect();
    WorkloadSource { source, selected: (!selected.is_empty()).then_some(selected) }
}

fn plan_of(name: &str, keys: &[&str]) -> WorkloadPlan {
    let workload = Workload { provider: "infisical".into(), ..Workload::default() };
    let mut plan = WorkloadPlan::new(name, &workload);
    plan.add(
        &source("/", &[]),
        &keys.iter().map(|key| found(key)).collect::<Vec<_>>(),
        true,
        &Ids::new(),
    );
    plan
}

/// Each variable with the key and the source of its reference, or its error.
fn summary(plan: &WorkloadPlan) -> Vec<String> {
    let secrets = plan.secrets.iter().map(|(variable, secret)| match &secret.error {
        Some(why) => format!("{variable}: {why}"),
        None => {
            let key = secret.reference.member("key").unwrap();
            format!("{} = {key} of {}", secret.name, secret.source)
        }
    });
    secrets.collect()
}

#[test]
fn selected_keys_become_variables_and_others_nothing() {
    let mut plan = plan_of("app", &[]);
    let selecting = source("/db", &[("URL", "U"), ("COPY", "U"), ("PW", "PW")]);
    plan.add(&selecting, &[found("PW"), found("U"), found("OTHER")], true, &Ids::new());
    let expected = ["app--COPY = U of p:/db", "app--PW = PW of p:/db", "app--URL = U of p:/db"];
    assert_eq!(summary(&plan), expected);
}

#[test]
fn selected_key_that_is_missing_is_an_error_unless_the_source_is_unknown() {
    let selecting = source("/db", &[("URL", "U"), ("PW", "PW")]);
    let whole = source("/shared", &[]);
    let plan = |is_known| {
        let mut plan = plan_of("app", &[]);
        plan.add(&whole, &[found("URL")], true, &Ids::new());
        plan.add(&selecting, &[found("PW")], is_known, &Ids::new());
        plan
    };
    let known = plan(true);
    let why = known.secrets["URL"].error.as_ref().unwrap();
    assert!(
        why.starts_with("p:/db has no key 'U' that psid may read, and keys or env of"),
        "{why}"
    );
    assert_eq!(known.secrets["PW"].error, None);
    // The earlier source's value would be another secret.
    assert_eq!(known.secrets["URL"].source, "p:/db");
    assert_eq!(summary(&plan(false))[1], "app--URL = URL of p:/shared");
}

#[test]
fn later_source_wins_and_the_earlier_one_is_named() {
    let mut plan = plan_of("app", &["A", "B"]);
    plan.add(&source("/later", &[("A", "X")]), &[found("X")], true, &Ids::new());
    assert_eq!(summary(&plan), ["app--A = X of p:/later", "app--B = B of p:/"]);
    let warnings = &plan.secrets["A"].warnings;
    assert_eq!(warnings[..], ["p:/ has A too, and that of p:/later, the later source, is used"]);
    assert!(plan.secrets["B"].warnings.is_empty());
}

#[test]
fn file_that_no_source_has_is_an_error() {
    let mut plan = plan_of("app", &["A"]);
    let mount = |key: &str| Mount { key: key.into(), ..Mount::default() };
    plan.workload.mount = vec![mount("A"), mount("tls.pem")];
    plan.workload.sources = vec![source("/", &[])];
    plan.add_missing_files();
    let why = plan.secrets["tls.pem"].error.as_ref().unwrap();
    assert!(why.contains("no source has a key 'tls.pem'") && why.contains("mount of"), "{why}");
    assert_eq!(plan.secrets["A"].error, None);
}

#[test]
fn name_of_two_workloads_belongs_to_the_first() {
    let mut plans = [plan_of("worker", &["A"]), plan_of("worker@", &["A", "B"])];
    reject_duplicate_names(&mut plans);
    assert_eq!(plans[0].secrets["A"].error, None);
    let why = plans[1].secrets["A"].error.as_ref().unwrap();
    assert!(why.starts_with("worker--A is already a secret of workload worker"), "{why}");
    assert_eq!(
        (plans[1].secrets["B"].name.as_str(), &plans[1].secrets["B"].error),
        ("worker--B", &None)
    );
}
