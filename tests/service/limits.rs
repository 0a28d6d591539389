//! What one user can use of psid at the users' socket, by real connections of real users. `tests/bench` measures how long
//! root's lookups take meanwhile.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use psi_harness::{Config, FakeInfisical, Instance, Process, Psid, copy_program, eventually, id};

/// Two users of workloads.
const USER: u32 = 23_456;
const OTHER: u32 = 23_457;
/// The first subordinate uid of a user of rootless podman (subuid(5)).
const SUBORDINATE: u32 = 100_000;
/// The descriptors of a user's connections: 16, each with a pidfd.
const OF_A_USER: usize = 32;
/// The memory of all that psid holds for one user, generously: it runs unoptimized here.
const MEMORY_OF_A_USER: u64 = 96 << 20;

/// The kinds of `psi-bench besiege`.
const KINDS: [&str; 13] = [
    "silent",
    "half a preface",
    "no call",
    "endless headers",
    "unfinished requests",
    "a byte a second",
    "calls",
    "resets",
    "settings",
    "pings",
    "empty frames",
    "unread answers",
    "churn",
];

struct Besieged {
    instance: Instance,
    psid: Psid,
    _infisical: FakeInfisical,
}

impl Besieged {
    /// psid with a literal of root's, and one of each user's.
    fn start() -> Self {
        let infisical = FakeInfisical::with(&json!({"/web": {"A": "1"}, "/db": {"A": "2"}}));
        let instance = Instance::of(&infisical);
        let config = Config::of(&infisical);
        instance
            .configure(&config.workload_of(USER, "web", "/web").workload_of(OTHER, "db", "/db"));
        let psid = instance.psid().with_users_socket(&instance).start();
        copy_program("psi-bench", &instance.run().join("psi-bench"));
        let besieged = Self { instance, psid, _infisical: infisical };
        for (number, uid) in [(1, 0), (2, USER), (3, OTHER)] {
            let literal = vec![b'x'; 500_000];
            besieged.driver(&["store"], uid).id(id(number)).stdin(literal).ok();
        }
        besieged
    }

    fn driver(&self, args: &[&str], uid: u32) -> psi_harness::Driver {
        match uid {
            0 => self.instance.driver(args),
            _ => self.instance.driver(args).user(&self.instance, uid, uid),
        }
    }

    fn besiege(&self, uid: u32, kind: &str, connections: u32) -> Process {
        let mut command = Command::new(self.instance.run().join("psi-bench"));
        command.arg("besiege").arg(self.instance.users_socket());
        command.args([kind, &connections.to_string(), &id(2)]);
        command.uid(uid).gid(uid).stdin(Stdio::piped()).stdout(Stdio::null());
        let process = Process::start(command);
        process.await_stderr("the siege has begun");
        process
    }

    /// Root's lookup, and that of a user who does nothing wrong.
    fn assert_served(&self, kind: &str) {
        for (number, uid) in [(1, 0), (3, OTHER)] {
            let found = self.driver(&["lookup"], uid).id(id(number)).run();
            assert_eq!((found.code, found.stdout.len()), (0, 500_000), "{kind}: {}", found.stderr);
        }
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.psid.process.pid())).unwrap().count()
    }

    fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.psid.process.pid());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    }
}

#[test]
fn hundred_hostile_connections_of_a_user_delay_nobody_else_and_use_bounded_memory() {
    let besieged = Besieged::start();
    for kind in KINDS {
        let (descriptors, resident) = (besieged.descriptors(), besieged.resident());
        let siege = besieged.besiege(USER, kind, 100);
        for _ in 0..5 {
            besieged.assert_served(kind);
            let now = besieged.descriptors();
            // The two callers' own, and those that are being closed.
            assert!(now <= descriptors + OF_A_USER + 8, "{kind}: {descriptors}, then {now}");
            let now = besieged.resident();
            assert!(now <= resident + MEMORY_OF_A_USER, "{kind}: {resident}, then {now}");
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(siege);
        eventually("the user to be served again", || {
            let found = besieged.driver(&["lookup"], USER).id(id(2)).run();
            (found.code == 0).then_some(())
        });
    }
    let log = besieged.psid.terminate();
    assert!(!log.contains("ERROR") && !log.contains("internal error (panic)"), "{log}");
}

/// Each process of rootless podman's user namespace may have a uid of its own.
#[test]
fn subordinate_uids_share_the_few_connections_of_strangers() {
    let besieged = Besieged::start();
    let before = besieged.descriptors();
    let sieges: Vec<_> =
        (0..40).map(|number| besieged.besiege(SUBORDINATE + number, "no call", 5)).collect();
    for _ in 0..5 {
        besieged.assert_served("subordinate uids");
        let now = besieged.descriptors();
        assert!(now <= before + 2 * 8 + 8, "{before}, then {now}");
    }
    drop(sieges);
}

/// Sends a store in two parts, and prints when psid answered.
const SLOW_STORE: &str = r#"
import socket, sys, time
def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
path = b"/psi.v1.SecretDriver/Store"
block = bytes([0x83, 0x86, 0x04, len(path)]) + path + b"\x0f\x10\x10application/grpc\x00\x02te\x08trailers"
message = b"\x0a\x19" + sys.argv[2].encode() + b"\x12\x04text"
body = b"\0" + len(message).to_bytes(4, "big") + message
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
client.sendall(frame(1, 4, 1, block) + frame(0, 0, 1, body[:20]))
start, received, is_sent = time.monotonic(), b"", False
while time.monotonic() < start + 30:
    while len(received) >= 9 and len(received) >= 9 + int.from_bytes(received[:3], "big"):
        length, kind = int.from_bytes(received[:3], "big"), received[3]
        if kind == 1:
            sys.exit(print("before" if not is_sent else "after", int(time.monotonic() - start)))
        received = received[9 + length:]
    if not is_sent and time.monotonic() > start + 13:
        is_sent = True
        client.sendall(frame(0, 1, 1, body[20:]))
    client.settimeout(0.1)
    try:
        received += client.recv(4096) or sys.exit("closed")
    except TimeoutError:
        pass
"#;

/// Podman waits for a store with its lock held.
#[test]
fn request_of_a_user_must_arrive_whole_within_10_s() {
    let besieged = Besieged::start();
    let send = |uid: u32, number: u32| {
        let socket = match uid {
            0 => besieged.instance.socket(),
            _ => besieged.instance.users_socket(),
        };
        let mut python = Command::new("python3");
        python.args(["-c", SLOW_STORE]).arg(socket).arg(id(number)).uid(uid).gid(uid);
        python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let [users, roots] = [send(USER, 7), send(0, 8)].map(|child| {
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    });
    assert!(["before 9", "before 10", "before 11"].contains(&users.trim()), "{users}");
    assert!(roots.starts_with("after 1"), "{roots}");
    besieged.driver(&["lookup"], USER).id(id(7)).fails(66);
    assert_eq!(besieged.driver(&["lookup"], 0).id(id(8)).text(), "text");
}

#[test]
fn sixteen_connections_of_a_user_are_accepted() {
    let besieged = Besieged::start();
    let before = besieged.descriptors();
    let siege = besieged.besiege(USER, "no call", 40);
    eventually("the connections to be accepted", || {
        (besieged.descriptors() >= before + OF_A_USER).then_some(())
    });
    for _ in 0..10 {
        besieged.assert_served("16 connections");
        let now = besieged.descriptors();
        assert!(now <= before + OF_A_USER + 8, "{before}, then {now}");
    }
    drop(siege);
}

#[test]
fn literals_of_a_user_and_their_bytes_are_limited() {
    let besieged = Besieged::start();
    let store = |number: u32, uid: u32, literal: &[u8]| {
        besieged.driver(&["store"], uid).id(id(number)).stdin(literal).run()
    };
    // One is there already; each has at most 512,000 bytes, all together 16 MiB.
    let full = (100..).find(|number| store(*number, USER, &[b'x'; 500_000]).code != 0).unwrap();
    assert_eq!(full, 100 + (16 << 20) / 500_000 - 1);
    let refused = store(full, USER, &[b'x'; 500_000]);
    assert_eq!(refused.code, 75, "{}", refused.stderr);
    assert!(refused.stderr.contains("16 MiB are the most for one user"), "{}", refused.stderr);
    assert_eq!(store(full, OTHER, b"text").code, 0);
    assert_eq!(store(full + 1, 0, &[b'x'; 500_000]).code, 0);
    // What is deleted makes room.
    besieged.driver(&["delete"], USER).id(id(100)).ok();
    assert_eq!(store(full + 2, USER, &[b'x'; 400_000]).code, 0);
    // Small ones, by their number.
    let mut next = 1_000..;
    let refused = next.find_map(|number| {
        let stored = store(number, USER, b"text");
        (stored.code != 0).then_some((number, stored))
    });
    let (number, stored) = refused.unwrap();
    assert!(number <= 1_200 && stored.code == 75, "{number}: {}", stored.stderr);
    assert!(stored.stderr.contains("200 literals"), "{}", stored.stderr);
}
