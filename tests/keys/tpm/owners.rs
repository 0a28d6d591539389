//! The owners of registrations through everything that rewrites their files.

use std::fs;

use serde_json::json;

use super::{init, instance_on, psid_on};
use psi_harness::{Config, Driver, FakeInfisical, Instance, Tpm, id, reference};

const USER: u32 = 23_456;
const OTHER: u32 = 23_457;

struct Owned {
    instance: Instance,
    tpm: Tpm,
    recovery: String,
    _infisical: FakeInfisical,
}

impl Owned {
    /// The user has a reference (1), a literal (2) and a deleted literal (3), root a literal (4).
    fn new() -> Self {
        let infisical = FakeInfisical::with(&json!({"/web": {"A": "1"}, "/db": {"A": "2"}}));
        let (instance, tpm) = (instance_on(&infisical), Tpm::start());
        let output = init(&instance, &tpm, &[]).text();
        let recovery = output.lines().map(str::trim).find(|line| line.len() == 71).unwrap().into();
        let config = Config::of(&infisical).workload_of(USER, "web", "/web");
        instance.configure(&config.workload_of(OTHER, "db", "/db"));
        Self { instance, tpm, recovery, _infisical: infisical }
    }

    fn psid(&self) -> psi_harness::Psid {
        psid_on(&self.instance, &self.tpm).with_users_socket(&self.instance).start()
    }

    fn by(&self, uid: u32, args: &[&str]) -> Driver {
        self.instance.driver(args).user(&self.instance, uid, uid)
    }

    #[track_caller]
    fn assert_owned(&self, ids: &[u32]) {
        let list: String = ids.iter().map(|number| id(*number) + "\n").collect();
        assert_eq!(self.by(USER, &["list"]).text(), list);
        assert_eq!(self.by(OTHER, &["list"]).text(), "");
        for number in ids {
            self.by(USER, &["lookup"]).id(id(*number)).ok();
            self.by(OTHER, &["lookup"]).id(id(*number)).fails(66);
        }
        self.by(USER, &["lookup"]).id(id(4)).fails(66);
        assert_eq!(self.instance.driver(&["lookup"]).id(id(4)).text(), "root's");
    }
}

#[test]
fn owners_survive_rekey_restart_restore_replacement_and_recovery() {
    let owned = Owned::new();
    let psid = owned.psid();
    owned.by(USER, &["store"]).id(id(1)).stdin(reference("/web", "A")).ok();
    owned.by(USER, &["store"]).id(id(2)).stdin("the user's").ok();
    owned.by(USER, &["store"]).id(id(3)).stdin("a deleted one").ok();
    owned.by(USER, &["delete"]).id(id(3)).ok();
    owned.instance.driver(&["store"]).id(id(4)).stdin("root's").ok();
    owned.assert_owned(&[1, 2]);
    owned.tpm.flush();
    owned.instance.driver(&["cache", "rekey"]).ok();
    owned.assert_owned(&[1, 2]);
    psid.terminate();
    let psid = owned.psid();
    owned.assert_owned(&[1, 2]);
    // Root restores what the user deleted.
    owned.by(OTHER, &["restore", &id(3)]).fails(66);
    owned.instance.driver(&["restore", &id(3)]).ok();
    owned.assert_owned(&[1, 2, 3]);
    // As `podman secret create --replace` does.
    owned.by(USER, &["delete"]).id(id(2)).ok();
    owned.by(USER, &["store"]).id(id(5)).stdin("replaced").ok();
    owned.assert_owned(&[1, 3, 5]);
    psid.terminate();
}

/// Without a key, a literal is locked for its owner and unknown to another user; the recovery key opens it.
#[test]
fn owner_is_known_while_no_key_is_open_and_after_a_recovery() {
    let mut owned = Owned::new();
    let psid = owned.psid();
    owned.by(USER, &["store"]).id(id(2)).stdin("the user's").ok();
    owned.instance.driver(&["store"]).id(id(4)).stdin("root's").ok();
    psid.terminate();
    owned.tpm.power_cycle();
    owned.tpm.extend(7);
    let psid = owned.psid();
    let locked = owned.by(USER, &["lookup"]).id(id(2)).run();
    assert!(locked.code != 66 && locked.code != 0, "{}", locked.stderr);
    assert!(locked.stderr.contains("key"), "{}", locked.stderr);
    let foreign = owned.by(OTHER, &["lookup"]).id(id(2)).fails(66);
    let unknown = owned.by(OTHER, &["lookup"]).id(id(9)).fails(66);
    assert_eq!(foreign.replace(&id(2), ""), unknown.replace(&id(9), ""));
    owned.by(OTHER, &["delete"]).id(id(2)).ok();
    assert_eq!(owned.by(USER, &["list"]).text(), id(2) + "\n");
    owned.tpm.flush();
    let typed = format!("{}\n", owned.recovery);
    owned.instance.driver(&["cache", "recover"]).stdin(typed).ok();
    owned.assert_owned(&[2]);
    let log = psid.terminate();
    assert!(log.contains("event=\"recover\""), "{log}");
    let file = fs::read(owned.instance.state().join("secrets").join(id(2))).unwrap();
    assert!(file.starts_with(b"PSIU"));
}
