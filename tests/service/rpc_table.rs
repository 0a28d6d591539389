//! Every RPC, by each kind of caller, for a registration of its own, another user's, and none: real calls of real users.
//! `cargo test -p psi-tests --test service rpc_table -- --nocapture` prints the table.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Psid, copy_program, reference, repository};

use Target::{Foreign, Own, Unknown};
use Who::{Other, Owner, PsidsUser, Root, Stranger};

/// Any status but PERMISSION_DENIED.
const ANY_STATUS: u16 = 999;
/// PERMISSION_DENIED and NOT_FOUND.
const DENIED: u16 = 7;
const NOT_FOUND: u16 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Root,
    PsidsUser,
    /// The user of the workload `one`, whose registrations are the foreign ones.
    Owner,
    /// The user of the workload `two`.
    Other,
    Stranger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Own,
    Foreign,
    Unknown,
}

/// The statuses that an RPC has for [own, foreign, unknown]: for root and psid's user, and for a user with a workload.
/// [`ANY_STATUS`]: any but PERMISSION_DENIED.
struct Row {
    rpc: &'static str,
    request: Request,
    admin: [u16; 3],
    user: [u16; 3],
}

/// What a request names.
#[derive(Clone, Copy)]
enum Request {
    /// An id that is registered as the literal `value`.
    Literal,
    /// The same, with the value.
    Store,
    /// An id that is registered as a reference to the key A of the workload.
    Reference,
    /// The same, with another reference.
    Repoint,
    /// An id that was deleted.
    Deleted,
    /// `WORKLOAD--A`.
    Name,
    /// A reference as JSON.
    Json,
    /// An id and a name for it.
    PodmanName,
    /// Nothing, or bytes that do not matter.
    Bytes(&'static [u8]),
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let row = |rpc, request, admin, user| Row { rpc, request, admin, user };
    let [all, own, admins] = [[0; 3], [0, DENIED, DENIED], [DENIED; 3]];
    let any = [ANY_STATUS; 3];
    let nothing = Request::Bytes(b"");
    let one_second = Request::Bytes(b"\x08\xe8\x07");
    vec![
        row("grpc.health.v1.Health/Check", nothing, all, all),
        row("psi.v1.SecretDriver/Lookup", Request::Literal, [0, 0, NOT_FOUND], [0, NOT_FOUND, NOT_FOUND]),
        row("psi.v1.SecretDriver/Lookup", Request::Name, [0, 0, NOT_FOUND], own),
        row("psi.v1.SecretDriver/Lookup", Request::Json, [0, 0, NOT_FOUND], own),
        row("psi.v1.SecretDriver/Store", Request::Store, all, [0, DENIED, 0]),
        row("psi.v1.SecretDriver/Delete", Request::Literal, all, all),
        row("psi.v1.SecretDriver/List", nothing, all, all),
        row("psi.v1.SecretDriver/Restore", Request::Deleted, [0, 0, NOT_FOUND], [0, NOT_FOUND, NOT_FOUND]),
        row("psi.v1.SecretDriver/Restorable", nothing, all, all),
        row("psi.v1.CacheAdmin/Status", nothing, all, all),
        row("psi.v1.CacheAdmin/Status", Request::Bytes(b"\x08\x01"), all, admins),
        row("psi.v1.CacheAdmin/Refresh", nothing, all, all),
        row("psi.v1.CacheAdmin/Refresh", Request::Bytes(b"\x08\x01"), all, admins),
        row("psi.v1.CacheAdmin/Refresh", Request::Bytes(b"\x10\x01"), all, admins),
        row("psi.v1.CacheAdmin/Drill", one_second, any, admins),
        row("psi.v1.CacheAdmin/Invalidate", Request::Reference, [0, 0, NOT_FOUND], admins),
        row("psi.v1.CacheAdmin/Rekey", nothing, any, admins),
        row("psi.v1.CacheAdmin/Recover", nothing, any, admins),
        row("psi.v1.CacheAdmin/MakeRecoveryKey", nothing, any, admins),
        row("psi.v1.HsmAdmin/Seal", Request::Bytes(b"\x0a\x01x"), any, admins),
        row("psi.v1.HsmAdmin/HsmStatus", nothing, any, admins),
        row("psi.v1.ProviderAdmin/Login", nothing, any, admins),
        row("psi.v1.WorkloadAdmin/Plan", nothing, all, all),
        row("psi.v1.WorkloadAdmin/Registrations", nothing, all, all),
        row("psi.v1.WorkloadAdmin/Repoint", Request::Repoint, [0, 0, NOT_FOUND], [0, NOT_FOUND, NOT_FOUND]),
        row("psi.v1.WorkloadAdmin/NoteNames", Request::PodmanName, all, all),
        row("psi.v1.ImportAdmin/Import", nothing, any, admins),
    ]
}

impl Row {
    fn expected(&self, who: Who, target: Target) -> u16 {
        match who {
            Root | PsidsUser => self.admin[target as usize],
            Owner | Other => self.user[target as usize],
            Stranger => DENIED,
        }
    }
}

#[test]
fn every_rpc_answers_each_caller_as_the_table_says() {
    let rows = rows();
    let proto = fs::read_to_string(repository().join("proto/psi/v1/psi.proto")).unwrap();
    for rpc in proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")) {
        let name = rpc.split('(').next().unwrap();
        assert!(rows.iter().any(|row| row.rpc.ends_with(&format!("/{name}"))), "no row: {name}");
    }
    let walk = Walk::start();
    println!("| RPC | root | psid's user | owner | other user with a workload | stranger |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for row in &rows {
        let cells = [Root, PsidsUser, Owner, Other, Stranger].map(|who| walk.cell(row, who));
        let what = match row.request {
            Request::Name => " by name",
            Request::Json => " by reference",
            Request::Bytes(b"\x08\x01" | b"\x10\x01") => " with an option of admins",
            _ => "",
        };
        println!("| {}{what} | {} |", row.rpc, cells.join(" | "));
    }
    // Nothing of all this reached another user's registrations.
    assert_eq!(
        walk.call(Owner, "psi.v1.SecretDriver/Lookup", &text(1, &walk.id(0))).1,
        text(1, "kept")
    );
}

/// An answer: its status and message, and its body.
type Answer = (u16, Vec<u8>, String);

struct Walk {
    instance: Instance,
    next: std::cell::Cell<u32>,
    _infisical: FakeInfisical,
    _psid: Psid,
}

impl Walk {
    fn start() -> Self {
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
        let walk =
            Self { instance, next: std::cell::Cell::new(1), _infisical: infisical, _psid: psid };
        walk.store(Owner, &walk.id(0), "kept");
        walk
    }

    /// Makes the calls of a cell, compares them with the table, and returns the cell.
    fn cell(&self, row: &Row, who: Who) -> String {
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
            0 => "yes".to_owned(),
            NOT_FOUND => "unknown".to_owned(),
            DENIED => "denied".to_owned(),
            other => format!("allowed ({other})"),
        };
        let names: Vec<String> = answers.values().map(|answer| name(answer.0)).collect();
        if names.iter().all(|one| *one == names[0]) {
            return names[0].clone();
        }
        format!("own {}, foreign {}, unknown {}", names[0], names[1], names[2])
    }

    /// The message, and the id in it.
    fn request(&self, request: Request, who: Who, target: Target) -> (Vec<u8>, String) {
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

    fn id(&self, number: u32) -> String {
        format!("{number:025x}")
    }

    /// A call as this user.
    fn call(&self, who: Who, rpc: &str, message: &[u8]) -> Answer {
        // curl loses an answer that arrives before it has sent the message.
        let answer = (0..20).find_map(|_| self.try_call(who, rpc, message));
        answer.unwrap_or_else(|| panic!("{rpc} by {who:?}: no answer"))
    }

    fn try_call(&self, who: Who, rpc: &str, message: &[u8]) -> Option<Answer> {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let file = |name: &str| directory.path().join(name);
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        fs::write(file("request"), [&[0], &length[..], message].concat()).unwrap();
        fs::set_permissions(file("request"), fs::Permissions::from_mode(0o644)).unwrap();
        let socket = match who {
            Root | PsidsUser => self.instance.socket(),
            Owner | Other | Stranger => self.instance.users_socket(),
        };
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60", "--http2-prior-knowledge", "--unix-socket"])
            .arg(socket)
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
            .args(["--data-binary", &format!("@{}", file("request").display())])
            .arg("-D")
            .arg(file("headers"))
            .arg("-o")
            .arg(file("body"))
            .arg(format!("http://psid/{rpc}"));
        curl.uid(who.uid()).gid(who.uid());
        curl.output().unwrap();
        let headers = fs::read_to_string(file("headers")).unwrap_or_default();
        let field = |name: &str| {
            let lines = headers.lines().filter_map(|line| line.split_once(": "));
            lines.rev_find(name)
        };
        let status = field("grpc-status")?.parse().ok()?;
        let body = fs::read(file("body")).unwrap_or_default();
        let body = body.get(5..).unwrap_or_default().to_vec();
        Some((status, body, field("grpc-message").unwrap_or_default()))
    }
}

/// The last value of a field.
trait RevFind<'a> {
    fn rev_find(self, name: &str) -> Option<String>;
}

impl<'a, I: Iterator<Item = (&'a str, &'a str)>> RevFind<'a> for I {
    fn rev_find(self, name: &str) -> Option<String> {
        let found = self.filter(|(field, _)| *field == name).last();
        found.map(|(_, value)| value.to_owned())
    }
}

impl Who {
    fn uid(self) -> u32 {
        match self {
            Root => 0,
            PsidsUser => 12_001,
            Owner => 12_002,
            Other => 12_003,
            Stranger => 12_004,
        }
    }

    fn workload(self) -> &'static str {
        match self {
            Root | PsidsUser => "mine",
            Owner | Stranger => "one",
            Other => "two",
        }
    }
}

fn message(request: Request, id: &str, workload: &str) -> Vec<u8> {
    let path = format!("/{workload}");
    match request {
        Request::Literal | Request::Reference | Request::Deleted => text(1, id),
        Request::Store => [text(1, id), text(2, "value")].concat(),
        Request::Repoint => [text(1, id), text(2, &reference(&path, "B"))].concat(),
        Request::Name => text(2, &format!("{workload}--A")),
        Request::Json => text(2, &reference(&path, "A")),
        Request::PodmanName => {
            let name = [text(1, id), text(2, "name")].concat();
            text(1, &String::from_utf8(name).unwrap())
        }
        Request::Bytes(bytes) => bytes.to_vec(),
    }
}

/// A field of a message: its number and a text shorter than 128 bytes.
fn text(field: u8, text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 128, "{text}");
    [&[field << 3 | 2, length], text.as_bytes()].concat()
}

fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}
