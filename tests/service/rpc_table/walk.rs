//! A psid with registrations of each user, and the calls of a cell of the table.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Psid, copy_program, reference};

use super::Target::{Foreign, Own, Unknown};
use super::Who::{Other, Owner, PsidsUser, Root, Stranger};
use super::call::{Answer, text, try_call};
use super::{ANY_STATUS, DENIED, NOT_FOUND, Request, Row, Target, Who, message};

pub(super) struct Walk {
    pub(super) instance: Instance,
    next: Cell<u32>,
    _infisical: FakeInfisical,
    _psid: Psid,
}

impl Walk {
    pub(super) fn start() -> Self {
        let infisical = FakeInfisical::with(&json!({
            "/one": {"A": "1", "B": "2"}, "/two": {"A": "3", "B": "4"}, "/mine": {"A": "5", "B": "6"}
        }));
        let instance = Instance::of(&infisical);
        let config = Config::of(&infisical)
            .workload_of(Owner.uid(), "one", "/one")
            .workload_of(Other.uid(), "two", "/two")
            .workload("mine", "/mine", false);
        instance.configure(&config);
        let copy = instance.run().join("psid");
        copy_program("psid", &copy);
        give(instance.directory(), PsidsUser.uid());
        fs::set_permissions(instance.run(), fs::Permissions::from_mode(0o777)).unwrap();
        let uid = PsidsUser.uid().to_string();
        let as_psid = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"];
        let psid = instance.psid().with_program(&copy).with_users_socket(&instance);
        let psid = psid.through(&as_psid).start();
        let refresh = || instance.driver(&["cache", "refresh"]).ok();
        refresh();
        for path in ["/one", "/two", "/mine"] {
            infisical.put(path, "B", "changed");
        }
        refresh();
        let walk = Self { instance, next: Cell::new(1), _infisical: infisical, _psid: psid };
        walk.store(Owner, &walk.id(0), "kept");
        walk
    }

    /// Makes the calls of a cell, compares them with the table, and returns the cell.
    pub(super) fn cell(&self, row: &Row, who: Who) -> String {
        let mut answers = BTreeMap::new();
        for target in [Own, Foreign, Unknown] {
            let (request, id) = self.request(row.request, who, target);
            let (status, body, message) = self.call(who, row.rpc, &request);
            let expected = row.expected(who, target);
            let is_expected =
                if expected == ANY_STATUS { status != DENIED } else { status == expected };
            assert!(is_expected, "{} by {who:?}, {target:?}: {status} {message}", row.rpc);
            let is_user = matches!(who, Owner | Other);
            if is_user && status == 0 {
                let foreign = self.id(0);
                let shown = String::from_utf8_lossy(&body);
                let has_foreign =
                    who == Other && (shown.contains(&foreign) || shown.contains("/one"));
                assert!(!has_foreign && !shown.contains("mine"), "{} by {who:?}: {shown}", row.rpc);
            }
            if target == Foreign && !matches!(who, Root | PsidsUser) {
                self.assert_untouched(row, who, &id);
            }
            answers.insert(target, (status, body, message.replace(&id, "ID")));
        }
        let by_id = matches!(
            row.request,
            Request::Literal | Request::Deleted | Request::Repoint | Request::PodmanName
        );
        if by_id && !matches!(who, Root | PsidsUser) {
            assert_eq!(answers[&Foreign], answers[&Unknown], "{} by {who:?}", row.rpc);
        }
        let name = |status: u16| match status {
            NOT_FOUND => "not found",
            DENIED => "denied",
            // The host of this test has neither a token nor a recovery key.
            _ => "yes",
        };
        let names: Vec<&str> = answers.values().map(|answer| name(answer.0)).collect();
        match names[..] {
            [own, foreign, unknown] if own == foreign && own == unknown => own.to_owned(),
            [own, foreign, unknown] => {
                format!("own: {own}; foreign: {foreign}; unknown: {unknown}")
            }
            _ => unreachable!("three targets"),
        }
    }

    /// Asserts that a call for another user's registration changed nothing of it.
    fn assert_untouched(&self, row: &Row, who: Who, id: &str) {
        let owner = if who == Owner { Other } else { Owner };
        let rpc = match row.request {
            Request::Literal | Request::Store | Request::PodmanName => "psi.v1.SecretDriver/Lookup",
            Request::Reference | Request::Repoint => "psi.v1.SecretDriver/Lookup",
            Request::Deleted => "psi.v1.SecretDriver/Restore",
            Request::Name | Request::Json | Request::Bytes(_) => return,
        };
        let (status, body, why) = self.call(owner, rpc, &text(1, id));
        assert_eq!(status, 0, "{} by {who:?}: {why}", row.rpc);
        let expected = match row.request {
            Request::Deleted => Vec::new(),
            Request::Reference | Request::Repoint => {
                text(1, if owner == Owner { "1" } else { "3" })
            }
            _ => text(1, "value"),
        };
        assert_eq!(body, expected, "{} by {who:?}", row.rpc);
    }

    /// The message, and the id in it.
    pub(super) fn request(&self, request: Request, who: Who, target: Target) -> (Vec<u8>, String) {
        let id = self.fresh();
        // A stranger has nothing of its own.
        let owner = match target {
            Own if who == Stranger => Owner,
            Own => who,
            Foreign if who == Owner => Other,
            Foreign => Owner,
            Unknown if matches!(request, Request::Repoint) => who,
            Unknown => return (message(request, &id, "nobodys"), id),
        };
        match request {
            _ if target == Unknown => {}
            Request::Literal | Request::Store | Request::PodmanName => {
                self.store(owner, &id, "value");
            }
            Request::Reference | Request::Repoint => {
                self.store(owner, &id, &reference(&format!("/{}", owner.workload()), "A"));
            }
            Request::Deleted => {
                self.store(owner, &id, "value");
                let deleted = self.call(owner, "psi.v1.SecretDriver/Delete", &text(1, &id));
                assert_eq!(deleted.0, 0, "{}", deleted.2);
            }
            Request::Name | Request::Json | Request::Bytes(_) => {}
        }
        // The new reference is the caller's: a foreign id with one that the caller may use.
        let workload = if matches!(request, Request::Repoint) { who } else { owner }.workload();
        (message(request, &id, workload), id)
    }

    fn store(&self, who: Who, id: &str, value: &str) {
        let request = [text(1, id), text(2, value)].concat();
        let (status, _, message) = self.call(who, "psi.v1.SecretDriver/Store", &request);
        assert_eq!(status, 0, "{message}");
    }

    fn fresh(&self) -> String {
        self.next.set(self.next.get() + 1);
        self.id(self.next.get())
    }

    pub(super) fn id(&self, number: u32) -> String {
        format!("{number:025x}")
    }

    /// A call as this user.
    pub(super) fn call(&self, who: Who, rpc: &str, message: &[u8]) -> Answer {
        let socket = match who {
            Root | PsidsUser => self.instance.socket(),
            Owner | Other | Stranger => self.instance.users_socket(),
        };
        self.call_at(&socket, who, rpc, message)
    }

    pub(super) fn call_at(&self, socket: &Path, who: Who, rpc: &str, message: &[u8]) -> Answer {
        // curl loses an answer that arrives before it has sent the message.
        let answer = (0..20).find_map(|_| try_call(socket, who.uid(), rpc, message));
        answer.unwrap_or_else(|| panic!("{rpc} by {who:?}: no answer"))
    }
}

fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}
