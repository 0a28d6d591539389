//! Every RPC, by each kind of caller, for a registration of its own, another user's, and none: real calls of real users.
//! The test writes the table that it found, and compares it with `contrib/doc/access.md`.

pub(crate) mod call;
mod walk;

use std::fs;

use psi_harness::{reference, repository};

use Target::Own;
use Who::{Other, Owner, PsidsUser, Root, Stranger};
use call::text;
use walk::Walk;

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
        row("grpc.health.v1.Health/Watch", nothing, all, all),
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
        row("psi.v1.WorkloadAdmin/Changes", nothing, all, all),
        row("psi.v1.ImportAdmin/Import", nothing, any, admins),
    ]
}

impl Row {
    /// What its request has that another row's of the same RPC has not.
    fn note(&self) -> &'static str {
        match (self.rpc, self.request) {
            ("psi.v1.SecretDriver/Lookup", Request::Literal) => ", by id",
            (_, Request::Name) => ", by name",
            (_, Request::Json) => ", by reference",
            ("psi.v1.CacheAdmin/Status", Request::Bytes(b"\x08\x01")) => ", verify",
            (_, Request::Bytes(b"\x08\x01")) => ", accept_removals",
            (_, Request::Bytes(b"\x10\x01")) => ", retry",
            _ => "",
        }
    }

    fn expected(&self, who: Who, target: Target) -> u16 {
        match who {
            Root | PsidsUser => self.admin[target as usize],
            Owner | Other => self.user[target as usize],
            Stranger => DENIED,
        }
    }
}

/// The RPCs of the proto file, as `psi.v1.SERVICE/RPC`.
fn rpcs() -> Vec<String> {
    let proto = fs::read_to_string(repository().join("proto/psi/v1/psi.proto")).unwrap();
    let (mut service, mut found) = (String::new(), Vec::new());
    for line in proto.lines() {
        if let Some(rest) = line.strip_prefix("service ") {
            rest.split(' ').next().unwrap().clone_into(&mut service);
        } else if let Some(rest) = line.trim().strip_prefix("rpc ") {
            found.push(format!("psi.v1.{service}/{}", rest.split('(').next().unwrap()));
        }
    }
    found
}

#[test]
fn every_rpc_answers_each_caller_as_the_table_says() {
    let rows = rows();
    let rpcs = rpcs();
    assert!(rpcs.len() > 20, "{rpcs:?}");
    for rpc in rpcs {
        assert!(rows.iter().any(|row| row.rpc == rpc), "no row: {rpc}");
    }
    let walk = Walk::start();
    let mut table = String::new();
    for row in &rows {
        let cells = [Root, PsidsUser, Owner, Other, Stranger].map(|who| walk.cell(row, who));
        let rpc = row.rpc.strip_prefix("psi.v1.").unwrap_or(row.rpc);
        table += &format!("| {rpc}{} | {} |\n", row.note(), cells.join(" | "));
    }
    // Nothing of all this reached another user's registrations.
    assert_eq!(
        walk.call(Owner, "psi.v1.SecretDriver/Lookup", &text(1, &walk.id(0))).1,
        text(1, "kept")
    );
    println!("{table}");
    compare_page(&table);
}

/// Compares the table with the committed page, or writes the page for `make generate`.
fn compare_page(table: &str) {
    let path = repository().join("contrib/doc/access.md");
    let present = fs::read_to_string(&path).unwrap();
    let (start, _) = present.split_once("\n| RPC |").expect("no table");
    let page = format!(
        "{start}\n| RPC | root | psid's user | owner | other user | stranger |\n\
         | --- | --- | --- | --- | --- | --- |\n{table}"
    );
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let is_current = fs::read_to_string(&path).unwrap() == page;
    assert!(is_current, "access.md is not current: run `make generate` and commit it");
}

/// The admin's socket has mode 0600; were it open, it would still serve no user.
#[test]
fn admins_socket_serves_no_user_whatever_its_mode() {
    let walk = Walk::start();
    for row in rows() {
        let (request, _) = walk.request(row.request, Owner, Own);
        let (status, _, why) = walk.call_at(&walk.instance.socket(), Owner, row.rpc, &request);
        assert_eq!(status, DENIED, "{}: {why}", row.rpc);
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
