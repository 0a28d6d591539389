use super::*;
use crate::model::reference::Namespace;

fn at(path: &str, key: &str) -> CacheKey {
    CacheKey::new(Namespace::new(&["r"]), path, key)
}

fn value() -> Value {
    Value::Listed(SecretBytes::new(b"v".to_vec()))
}

#[test]
fn the_folder_nearest_to_a_recursive_source_wins() {
    let scope =
        ListingScope { namespace: Namespace::new(&["r"]), path: "/svc".into(), recursive: true };
    let found =
        [("/svc/b", "K"), ("/svc", "K"), ("/svc/a/deep", "ONLY"), ("/svc/a", "K"), ("/x", "K")];
    let found = found.map(|(path, key)| (at(path, key), value())).into();
    let kept: Vec<_> = nearest(&scope, found)
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
        depends_on: Vec::new(),
        mount: Vec::new(),
        sources: Vec::new(),
    };
    let mut plan = WorkloadPlan {
        name: name.into(),
        prefix: prefix_of(name),
        workload,
        secrets: BTreeMap::new(),
        untrusted: None,
        missing: None,
        error: None,
    };
    let source = Source { project: "p".into(), path: "/".into(), recursive: false };
    for key in keys {
        let found = Found { key: at("/", key), value: value(), shadowed: Vec::new() };
        let secret = plan_secret(&plan, &source, &found, &Ids::new());
        plan.secrets.insert((*key).into(), secret);
    }
    plan
}

#[test]
fn a_name_that_two_workloads_make_belongs_to_one() {
    let mut plans = [plan_of("worker", &["A"]), plan_of("worker@", &["A", "B"])];
    refuse_names_of_others(&mut plans);
    assert_eq!(plans[0].secrets["A"].error, None);
    let why = plans[1].secrets["A"].error.as_ref().unwrap();
    assert!(why.starts_with("worker--A is workload worker's"), "{why}");
    assert_eq!(
        (plans[1].secrets["B"].name.as_str(), &plans[1].secrets["B"].error),
        ("worker--B", &None)
    );
}
