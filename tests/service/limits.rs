//! What one user can use of psid at the users' socket, by real connections of real users. `tests/bench` measures how long
//! root's lookups take meanwhile.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// Podman waits for a store with its lock held.
#[test]
fn request_of_a_user_must_arrive_whole_within_10_s() {
    let besieged = Besieged::start();
    let send = |uid: u32, number: u32| {
        let socket = match uid {
            0 => besieged.instance.socket(),
            _ => besieged.instance.users_socket(),
        };
        // A store of a literal in two parts; `-T .` reads its stdin without waiting for it.
        let message = format!("\\012\\031{}\\022\\004text", id(number));
        let script = format!(
            "{{ printf '\\000\\000\\000\\000\\041{message}' | head -c 20; sleep 12; \
             printf '\\000\\000\\000\\000\\041{message}' | tail -c +21; }} | \
             curl -sS --max-time 60 --http2-prior-knowledge --unix-socket {} -X POST -T . \
             -H 'content-type: application/grpc' -H 'te: trailers' -D - -o /dev/null \
             http://psid/psi.v1.SecretDriver/Store",
            socket.display()
        );
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script]).uid(uid).gid(uid).stdin(Stdio::null());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let start = Instant::now();
    let [users, roots] = [send(USER, 7), send(0, 8)].map(|child| child.wait_with_output().unwrap());
    let text = |output: &std::process::Output| {
        let all = [&output.stdout[..], &output.stderr].concat();
        String::from_utf8_lossy(&all).into_owned()
    };
    assert!(start.elapsed() > Duration::from_secs(10));
    let (users, roots) = (text(&users), text(&roots));
    assert!(users.contains("did%20not%20arrive%20within%2010%20s"), "{users}");
    assert!(roots.contains("grpc-status: 0"), "{roots}");
    assert_eq!(besieged.driver(&["lookup"], 0).id(id(8)).text(), "text");
}

#[test]
fn seventeenth_connection_of_a_user_is_closed_and_another_users_is_not() {
    let besieged = Besieged::start();
    let siege = besieged.besiege(USER, "no call", 16);
    let lookup = |number: u32, uid: u32| besieged.driver(&["lookup"], uid).id(id(number)).run();
    eventually("the connections to be accepted", || (lookup(2, USER).code != 0).then_some(()));
    let refused = lookup(2, USER);
    assert!(matches!(refused.code, 69 | 75 | 76), "{}", refused.stderr);
    besieged.assert_served("16 connections");
    drop(siege);
    eventually("a place", || (lookup(2, USER).code == 0).then_some(()));
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
