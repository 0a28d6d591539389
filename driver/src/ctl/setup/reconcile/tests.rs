use std::path::Path;

use psi_common::{Paths, Scope};
use psi_proto::v1::Tristate;

use super::*;
use crate::ctl::podman::Secret;
use crate::ctl::setup::drift::{self, Class};

fn commands() -> Commands {
    let paths = Paths::new(Scope::System);
    Commands::of(Some(Path::new("/usr/bin/psi-driver")), &paths).unwrap()
}

fn id(number: u32) -> SecretId {
    format!("{number:025x}").parse().unwrap()
}

/// The state of a host whose only workload `app` lists A, and nothing else.
fn found() -> ActualState {
    let drop_ins =
        BTreeMap::from([("app".to_owned(), DropIn::of(Path::new("/nonexistent"), "app"))]);
    ActualState {
        planned: vec![workload("app", &["A"])],
        outsiders: Outsiders::default(),
        registered: BTreeMap::new(),
        secrets: Secrets::default(),
        nameless: BTreeSet::new(),
        podman: About { graph_root: PathBuf::new(), version: "5.4.2".into() },
        drop_ins,
        kube_drop_ins: BTreeMap::new(),
        commands: commands(),
        has_backend: true,
        withheld: Vec::new(),
        accept_removals: true,
        config_drift: None,
        is_psid_a_unit: true,
    }
}

fn workload(name: &str, keys: &[&str]) -> PlannedWorkload {
    let prefix = format!("{name}--");
    let secrets = keys.iter().map(|key| PlannedSecret {
        key: (*key).into(),
        name: format!("{prefix}{key}"),
        survives_outage: Tristate::Yes.into(),
        ..PlannedSecret::default()
    });
    PlannedWorkload {
        name: name.into(),
        secrets: secrets.collect(),
        prefix,
        ..PlannedWorkload::default()
    }
}

impl ActualState {
    /// Adds a secret with psi's commands to podman, and to psid a registration of `kind`, if any.
    fn has(mut self, name: &str, number: u32, kind: Option<RegistrationKind>) -> Self {
        let secret = Secret {
            id: id(number),
            name: name.into(),
            driver: "shell".into(),
            options: commands().options(),
        };
        self.secrets = self.secrets.iter().cloned().chain([secret]).collect();
        if let Some(kind) = kind {
            let about = Registration { kind: kind.into(), ..Registration::default() };
            self.registered.insert(id(number), about);
        }
        self
    }

    /// The plan of `app`.
    fn of_app(&self) -> Plan {
        self.plan().into_iter().find(|plan| plan.name == "app").unwrap()
    }

    /// Changes podman's secrets.
    fn change(&mut self, edit: impl Fn(&mut Secret)) {
        let mut all: Vec<Secret> = self.secrets.iter().cloned().collect();
        all.iter_mut().for_each(edit);
        self.secrets = all.into_iter().collect();
    }

    fn with_lines(mut self, names: &[&str]) -> Self {
        let lines =
            names.iter().map(|name| ((*name).to_owned(), format!("Secret={name},type=env")));
        let drop_in = self.drop_ins.get_mut("app").unwrap();
        drop_in.present = Present::Ours(drop_in::text(true, &[], &lines.collect()));
        self
    }
}

fn action(found: &ActualState) -> Result<(Action, bool), String> {
    let mut plan = found.of_app();
    match plan.steps.pop() {
        Some(step) => Ok((step.action, step.stale)),
        None => Err(plan.errors.remove(0)),
    }
}

use RegistrationKind::{Literal, Reference, Unusable};

#[test]
fn plan_chooses_the_smallest_change() {
    assert_eq!(action(&found()), Ok((Action::Create, false)));
    assert_eq!(action(&found().has("app--A", 1, None)), Ok((Action::Register, false)));
    let elsewhere = found().has("app--A", 1, Some(Reference));
    assert_eq!(action(&elsewhere), Ok((Action::Repoint, false)));
    let mut right = found().has("app--A", 1, Some(Reference));
    right.planned[0].secrets[0].ids = vec![id(7).to_string(), id(1).to_string()];
    assert_eq!(action(&right), Ok((Action::Keep, false)));
    right.change(|secret| {
        let lookup = "curl -sf --unix-socket /run/psi/psi.sock …";
        secret.options.insert("lookup".into(), lookup.into());
    });
    assert_eq!(action(&right), Ok((Action::Keep, true)));
}

/// The source that did not answer may override the one that did.
#[test]
fn plan_repoints_nothing_while_a_source_is_unreachable() {
    let of = |mut found: ActualState, overlaps| {
        found.planned[0].incomplete = "the provider is out".into();
        found.planned[0].overlaps = overlaps;
        let plan = found.of_app();
        let actions: Vec<_> = plan.steps.iter().map(|step| step.action).collect();
        (actions, plan.warnings.len())
    };
    let elsewhere = || found().has("app--A", 1, Some(Reference));
    assert_eq!(of(elsewhere(), true), (vec![Action::Keep], 1));
    assert_eq!(of(elsewhere(), false), (vec![Action::Keep], 1));
    assert_eq!(of(found(), true), (Vec::new(), 1));
    assert_eq!(of(found().has("app--A", 1, None), true), (vec![Action::Keep], 1));
    // A key that only one directory can have is certain.
    assert_eq!(of(found(), false), (vec![Action::Create], 0));
    assert_eq!(of(found().has("app--A", 1, None), false), (vec![Action::Register], 0));
}

#[test]
fn plan_reports_and_keeps_secrets_of_others() {
    let why = |found: ActualState| action(&found).unwrap_err();
    assert!(why(found().has("app--A", 1, Some(Literal))).contains("is a literal"));
    assert!(why(found().has("app--A", 1, Some(Unusable))).contains("psid cannot use it"));
    let mut other = found().has("app--A", 1, None);
    other.change(|secret| {
        secret.options = BTreeMap::from([("lookup".into(), "pass show $SECRET_ID".into())]);
    });
    assert!(why(other).contains("another secret driver"));
    let mut file = found().has("app--A", 1, None);
    file.change(|secret| secret.driver = "file".into());
    assert!(why(file).contains("migrate --from file"));
}

/// An interrupted `--replace` leaves both.
#[test]
fn plan_reports_duplicate_names_with_their_ids() {
    let twice = found().has("app--A", 1, Some(Reference)).has("app--A", 2, Some(Reference));
    let why = action(&twice).unwrap_err();
    let command = format!("podman secret rm {} {}", id(1), id(2));
    assert!(why.contains("2 secrets with the name app--A") && why.contains(&command), "{why}");
    let mut nameless = found().has("app--A", 1, Some(Reference));
    nameless.nameless.insert(id(1));
    let why = action(&nameless).unwrap_err();
    assert!(why.contains(&format!("podman secret rm {}`", id(1))), "{why}");
    // And nothing of them is pruned by its name, which means only one of them.
    let gone = found().has("app--B", 1, Some(Reference)).has("app--B", 2, Some(Reference));
    let plan = gone.of_app();
    assert!(plan.unlisted.is_empty() && plan.errors[0].contains("2 secrets with the name app--B"));
}

#[test]
fn plan_finds_unlisted_secrets_by_their_workload() {
    let mut found = found()
        .has("app--OLD", 1, Some(Reference))
        .has("app--by_hand", 2, Some(Literal))
        .has("app--two--K", 3, Some(Reference))
        .has("other--K", 4, Some(Reference))
        .with_lines(&["app--OLD", "app--LOST"]);
    found.planned.push(workload("app--two", &[]));
    let other = DropIn::of(Path::new("/nonexistent"), "app--two");
    found.drop_ins.insert("app--two".into(), other);
    let gone = |name: &str, in_podman| UnlistedSecret { name: name.into(), in_podman };
    assert_eq!(found.of_app().unlisted, [gone("app--LOST", false), gone("app--OLD", true)]);
    let plans = found.plan();
    assert_eq!(plans[1].unlisted, [gone("app--two--K", true)]);
    let classified = drift::classify(&found, &plans);
    let class = |name: &str| classified.iter().find(|secret| secret.name == name).unwrap().class;
    assert_eq!(class("app--OLD"), Class::Orphaned);
    assert_eq!(class("app--by_hand"), Class::Managed);
    assert_eq!(class("other--K"), Class::Managed);
}

/// Version 1, pull request 37: keys that fell out of a fetch left the drop-in, and a container started
/// without its variable and without an error.
#[test]
fn drop_in_keeps_its_lines_if_a_listing_lacks_them() {
    let mut found =
        found().has("app--OLD", 1, Some(Reference)).with_lines(&["app--OLD", "app--LOST"]);
    let names = |found: &ActualState, pruned| {
        let plan = found.of_app();
        plan.lines(|name| found.will_have(&plan, name), pruned).into_keys().collect::<Vec<_>>()
    };
    // What podman has no more, no container could start with.
    assert_eq!(names(&found, false), ["app--A", "app--OLD"]);
    assert_eq!(names(&found, true), ["app--A"]);
    found.planned[0].incomplete = "the provider is out".into();
    for pruned in [false, true] {
        assert_eq!(names(&found, pruned), ["app--A", "app--LOST", "app--OLD"]);
        assert!(!found.of_app().may_prune());
    }
    // Nor by a key that cannot be set up any more.
    found.planned[0].secrets[0].error = "not a valid name of a variable".into();
    assert_eq!(names(&found.with_lines(&["app--A"]), true), ["app--A"]);
}

/// A directory that exists but is empty now.
#[test]
fn plan_removes_most_of_a_directory_only_after_a_confirmation() {
    let about = |found: &mut ActualState, number, key: &str, path: &str| {
        let text = format!("infisical key={key} path={path} project=p");
        found.registered.get_mut(&id(number)).unwrap().description = text;
    };
    let mut found = (2..8).fold(found(), |found, number| {
        found.has(&format!("app--K{number}"), number, Some(Reference))
    });
    found = found.has("app--A", 1, Some(Reference)).has("app--DB", 9, Some(Reference));
    found.planned[0].secrets.extend(workload("app", &["K2", "K3", "K4", "K5"]).secrets);
    about(&mut found, 1, "A", "/app");
    for number in 2..8 {
        about(&mut found, number, &format!("K{number}"), "/app");
    }
    about(&mut found, 9, "DB", "/app");
    found.accept_removals = false;
    // 3 of 8 of one directory.
    assert_eq!((found.of_app().unlisted.len(), found.of_app().unconfirmed), (3, None));
    assert!(found.of_app().may_prune());
    // The one of another directory, which gives nothing any more.
    about(&mut found, 9, "DB", "/db");
    let plan = found.of_app();
    let why = plan.unconfirmed.clone().unwrap();
    assert!(why.starts_with("1 of the 1 secrets of infisical path=/db"), "{why}");
    assert!(!plan.may_prune());
    let drift = drift::drift(&found, &found.plan());
    let gone = drift.iter().filter(|one| one.at == "provider");
    assert!(
        gone.clone().count() == 3 && gone.clone().all(|one| one.what.contains("--accept-removals"))
    );
    found.accept_removals = true;
    assert!(found.of_app().may_prune());
}

/// The secrets of a source that did not answer are unknown.
#[test]
fn unreachable_source_causes_neither_drift_nor_orphans() {
    let mut found = found().has("app--A", 1, Some(Reference)).has("app--B", 2, Some(Reference));
    found.planned[0].incomplete = "p:/app: the provider answered 404".into();
    found.planned[0].secrets[0].ids = vec![id(1).to_string()];
    let plans = found.plan();
    assert!(drift::drift(&found, &plans).iter().all(|one| one.at != "provider"));
    let classified = drift::classify(&found, &plans);
    let of_b = classified.iter().find(|secret| secret.name == "app--B").unwrap();
    assert!(of_b.class == Class::Unknown && of_b.why.contains("answered 404"), "{}", of_b.why);
}

/// psid may be unable to read its registrations, or its config may lack its workloads by mistake.
#[test]
fn psid_without_registrations_causes_no_orphans() {
    let mut found = found().has("app--A", 1, None).has("app--B", 2, None).with_lines(&["app--A"]);
    found.accept_removals = false;
    assert!(found.of_app().unlisted.is_empty());
    let classified = drift::classify(&found, &found.plan());
    assert!(classified.iter().all(|secret| secret.class == Class::Unknown));
    found.planned.clear();
    let plan = found.of_app();
    assert!(plan.is_removed && !plan.may_prune());
    assert_eq!(plan.text(|_| true, true), plan.drop_in.text());
}

#[test]
fn prune_removes_a_workload_that_is_not_in_the_config() {
    let mut found = found().has("app--A", 1, Some(Reference)).with_lines(&["app--A"]);
    found.planned.clear();
    let plan = found.of_app();
    assert!(plan.is_removed);
    assert_eq!(plan.unlisted, [UnlistedSecret { name: "app--A".into(), in_podman: true }]);
    assert_eq!(plan.text(|_| true, false), plan.drop_in.text());
    assert_eq!(plan.text(|_| true, true), "");
    assert_eq!(drift::drift(&found, &found.plan()).len(), 2);
}

#[test]
fn plan_of_an_invalid_workload_is_empty() {
    let mut found = found();
    found.drop_ins.clear();
    found.planned[0].error = "'../x' is not a valid name of a workload".into();
    let plan = found.of_app();
    assert!(plan.steps.is_empty() && plan.unlisted.is_empty() && !plan.may_write());
}
