//! The users that workloads name, and a name service that does not know them, hangs or fails.

use std::time::{Duration, Instant};

use serde_json::json;

use psi_harness::{Config, Driver, FakeInfisical, Instance, NameService, Psid};

const UID: u32 = 34_567;

struct Fixture {
    infisical: FakeInfisical,
    instance: Instance,
    names: NameService,
    psid: Psid,
    /// How long psid took to be ready.
    ready_after: Duration,
}

impl Fixture {
    /// The workload `web` of the user `web`, and `local` of root, the only user of the passwd file.
    fn new(users: &str) -> Self {
        let infisical = FakeInfisical::with(&json!({"/web": {"A": "1"}, "/local": {"A": "2"}}));
        let instance = Instance::of(&infisical);
        let names = NameService::of(&instance, users);
        let config = Config::of(&infisical).workload_of("web", "web", "/web");
        instance.configure(&config.workload_of("root", "local", "/local"));
        let start = Instant::now();
        let psid = names.on(instance.psid()).with_users_socket(&instance).start();
        Self { infisical, instance, names, psid, ready_after: start.elapsed() }
    }

    fn web(&self) -> Driver {
        self.instance.driver(&["get", "web--A"]).user(&self.instance, UID, UID)
    }
}

#[test]
fn user_that_appears_is_found_by_a_reload() {
    let mut fixture = Fixture::new("root 0\n");
    fixture.web().fails(77);
    let reason = "user = \"web\" of workload web is unknown: there is no such user, and root alone may use the workload";
    assert!(fixture.psid.degraded().contains(reason), "{}", fixture.psid.degraded());
    assert_eq!(fixture.instance.driver(&["get", "web--A"]).text(), "1");
    fixture.names.set(&format!("root 0\nweb {UID}\n"));
    fixture.psid.reload();
    assert_eq!(fixture.web().text(), "1");
    assert_eq!(fixture.psid.degraded(), "");
}

#[test]
fn user_that_appears_is_found_within_a_minute() {
    let fixture = Fixture::new("root 0\n");
    fixture.web().fails(77);
    fixture.names.set(&format!("root 0\nweb {UID}\n"));
    let start = Instant::now();
    while fixture.web().run().code != 0 {
        assert!(start.elapsed() < Duration::from_secs(75), "{}", fixture.psid.degraded());
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(fixture.psid.degraded(), "");
}

#[test]
fn name_service_that_hangs_delays_neither_psid_nor_roots_lookups() {
    let mut fixture = Fixture::new("root 0\nweb hang\n");
    assert!(fixture.ready_after < Duration::from_secs(2), "{:?}", fixture.ready_after);
    assert_eq!(fixture.instance.driver(&["get", "web--A"]).text(), "1");
    // Users wait for at most two seconds until it is known who they are.
    let start = Instant::now();
    fixture.web().fails(77);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let reason = "is unknown: the name service does not answer";
    assert!(fixture.psid.degraded().contains(reason), "{}", fixture.psid.degraded());
    let start = Instant::now();
    fixture.psid.reload();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    // It answers again.
    fixture.names.set(&format!("root 0\nweb {UID}\n"));
    fixture.psid.reload();
    assert_eq!(fixture.web().text(), "1");
    assert_eq!(fixture.infisical.logins(), 1);
}

#[test]
fn known_user_stays_known_while_the_name_service_fails() {
    let mut fixture = Fixture::new(&format!("root 0\nweb {UID}\n"));
    assert_eq!(fixture.web().text(), "1");
    for answer in ["fail", "hang"] {
        fixture.names.set(&format!("root 0\nweb {answer}\n"));
        fixture.psid.reload();
        assert_eq!(fixture.web().text(), "1", "{answer}");
        assert_eq!(fixture.psid.degraded(), "", "{answer}");
    }
    // A user that was removed is one no longer, and neither is a new one that gets the uid of another.
    fixture.names.set("root 0\n");
    fixture.psid.reload();
    fixture.web().fails(77);
    fixture.names.set(&format!("root 0\nweb {}\n", UID + 1));
    fixture.psid.reload();
    fixture.web().fails(77);
}

#[test]
fn check_warns_of_an_unknown_user() {
    let fixture = Fixture::new("root 0\nweb fail\n");
    let check = fixture.names.on(fixture.instance.psid()).args(&["check"]).run();
    assert_eq!(check.code, 0, "{}", check.stderr);
    let text = check.stdout_text();
    assert!(text.contains("warning: user = \"web\" of workload web is unknown: "), "{text}");
    fixture.names.set(&format!("root 0\nweb {UID}\n"));
    let check = fixture.names.on(fixture.instance.psid()).args(&["check"]).run();
    assert!(!check.stdout_text().contains("warning"), "{}", check.stdout_text());
}
