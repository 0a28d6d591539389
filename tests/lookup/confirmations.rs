//! Removals that need a second listing at least a minute later.

use std::time::Duration;

use serde_json::{Value, json};

use psi_harness::{Clock, Config, FakeInfisical, Instance, Psid, id, reference};

/// A psid with a cached workload of this directory, on a clock that the test sets.
struct Fixture {
    infisical: FakeInfisical,
    instance: Instance,
    clock: Clock,
    psid: Psid,
}

impl Fixture {
    fn new(secrets: &Value) -> Self {
        let infisical = FakeInfisical::with(&json!({"/myapp": secrets}));
        let instance = Instance::of(&infisical);
        instance.configure(&Config::of(&infisical).workload("myapp", "/myapp", false));
        let clock = Clock::of(&instance);
        let psid = clock.on(instance.psid()).start();
        let fixture = Self { infisical, instance, clock, psid };
        fixture.refresh(0);
        fixture
    }

    /// The report of a refresh, a second later, that ends with this exit status.
    #[track_caller]
    fn refresh(&self, code: i32) -> String {
        self.advance(1);
        let outcome = self.instance.driver(&["cache", "refresh"]).run();
        assert_eq!(outcome.code, code, "{outcome:?}");
        outcome.stdout_text()
    }

    #[track_caller]
    fn value(&self, key: &str) -> String {
        self.instance.driver(&["get", &format!("myapp--{key}")]).text()
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The number of entries, and of withheld ones.
    fn counts(&self) -> (Value, Value) {
        let status = self.psid.status();
        (status["entries"].clone(), status["withheld_count"].clone())
    }
}

#[test]
fn mass_removal_is_applied_by_a_listing_a_minute_later() {
    let fixture = Fixture::new(&json!({"A": "1", "B": "2", "C": "3"}));
    for key in ["B", "C"] {
        fixture.infisical.remove("/myapp", key);
    }
    fixture.refresh(1);
    fixture.advance(57);
    fixture.refresh(1);
    assert_eq!(fixture.counts(), (json!(3), json!(2)));
    assert_eq!(fixture.value("B"), "2");
    fixture.advance(3);
    assert!(fixture.refresh(0).contains("1 unchanged, 2 removed"));
    assert_eq!(fixture.counts(), (json!(1), json!(0)));
    fixture.instance.driver(&["get", "myapp--B"]).fails(66);
    assert_eq!(fixture.value("A"), "1");
}

#[test]
fn listing_with_the_secrets_ends_a_pending_removal() {
    let fixture = Fixture::new(&json!({"A": "1", "B": "2", "C": "3"}));
    let remove = || ["B", "C"].iter().for_each(|key| fixture.infisical.remove("/myapp", key));
    remove();
    fixture.refresh(1);
    for key in ["B", "C"] {
        fixture.infisical.put("/myapp", key, "back");
    }
    fixture.advance(30);
    assert!(fixture.refresh(0).contains("2 changed, 1 unchanged, 0 removed"));
    assert_eq!(fixture.counts(), (json!(3), json!(0)));
    remove();
    fixture.advance(40);
    fixture.refresh(1);
    assert_eq!(fixture.counts(), (json!(3), json!(2)), "the minute begins anew");
    assert_eq!(fixture.value("B"), "back");
}

#[test]
fn removal_of_less_than_half_needs_no_confirmation() {
    let fixture = Fixture::new(&json!({"A": "1", "B": "2", "C": "3"}));
    fixture.infisical.remove("/myapp", "B");
    assert!(fixture.refresh(0).contains("2 unchanged, 1 removed"));
    assert_eq!(fixture.counts(), (json!(2), json!(0)));
}

#[test]
fn emptied_value_is_applied_by_a_listing_a_minute_later() {
    let fixture = Fixture::new(&json!({"A": "1", "B": "2"}));
    fixture.infisical.put("/myapp", "A", "");
    fixture.refresh(1);
    fixture.advance(57);
    fixture.refresh(1);
    assert_eq!(fixture.value("A"), "1");
    fixture.advance(3);
    assert!(fixture.refresh(0).contains("1 changed, 1 unchanged"));
    assert_eq!(fixture.value("A"), "");
    assert_eq!(fixture.counts(), (json!(2), json!(0)));
}

#[test]
fn emptied_directory_is_applied_by_a_listing_a_minute_later() {
    let fixture = Fixture::new(&json!({"A": "1"}));
    let (driver, instance) = (|args: &[&str]| fixture.instance.driver(args), &fixture.instance);
    driver(&["store"]).id(id(1)).stdin(reference("/myapp", "A")).ok();
    fixture.infisical.remove("/myapp", "A");
    fixture.refresh(1);
    fixture.advance(57);
    fixture.refresh(1);
    assert_eq!(instance.driver(&["lookup"]).id(id(1)).text(), "1");
    fixture.advance(3);
    assert!(fixture.refresh(0).contains("1 removed"));
    instance.driver(&["lookup"]).id(id(1)).fails(66);
}

/// The minute is counted from the first listing, not from the last one.
#[test]
fn listings_within_the_minute_do_not_postpone_a_removal() {
    let fixture = Fixture::new(&json!({"A": "1", "B": "2", "C": "3"}));
    for key in ["B", "C"] {
        fixture.infisical.remove("/myapp", key);
    }
    for _ in 0..3 {
        fixture.refresh(1);
        fixture.advance(18);
    }
    fixture.refresh(1);
    fixture.advance(3);
    assert!(fixture.refresh(0).contains("2 removed"));
}
