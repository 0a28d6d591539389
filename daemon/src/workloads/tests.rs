use super::*;
use crate::model::reference::Namespace;

fn key_at(path: &str, key: &str) -> CacheKey {
    CacheKey::new(Namespace::new(&["r"]), path, key)
}

fn value() -> Value {
    Value::Listed(SecretBytes::new(b"v".to_vec()))
}

#[test]
fn directory_nearest_to_a_recursive_source_wins() {
    let scope =
        ListingScope { namespace: Namespace::new(&["r"]), path: "/svc".into(), recursive: true };
    let found =
        [("/svc/b", "K"), ("/svc", "K"), ("/svc/a/deep", "ONLY"), ("/svc/a", "K"), ("/x", "K")];
    let values = found.map(|(path, key)| (key_at(path, key), value())).into();
    let kept: Vec<_> = nearest(SourceContents { scope, values })
        .into_iter()
        .map(|found| (found.key.path.to_string(), found.key.key.to_string(), found.shadowed))
        .collect();
    let others = vec!["/svc/a".to_owned(), "/svc/b".to_owned()];
    assert_eq!(
        kept,
        [
            ("/svc".to_owned(), "K".to_owned(), others),
            ("/svc/a/deep".to_owned(), "ONLY".to_owned(), Vec::new())
        ]
    );
}

fn plan_of(name: &str, keys: &[&str]) -> WorkloadPlan {
    let workload = Workload {
        provider: "infisical".into(),
        user: None,
        depends_on: Vec::new(),
        mount: Vec::new(),
        on_change: crate::provider::upstream::OnChange::default(),
        sources: Vec::new(),
    };
    let mut plan = WorkloadPlan::new(name, &workload);
    let source = Source { project: "p".into(), path: "/".into(), recursive: false };
    for key in keys {
        let found = Found { key: key_at("/", key), value: value(), shadowed: Vec::new() };
        let secret = plan_secret(&plan, &source, &found, &Ids::new());
        plan.secrets.insert((*key).into(), secret);
    }
    plan
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
