//! Rules 3, 4 and 5: which room of the daemon may know which.

use super::source::{Source, sources};

/// Each room and the rooms that it may name; those that put everything together are not listed.
const ROOMS: &[(&str, &[&str])] = &[
    ("boot", &["cache", "files"]),
    ("breaker", &["clock"]),
    ("cache", &["clock", "reference"]),
    ("clock", &[]),
    ("config", &["credential", "pkcs11", "provider", "upstream"]),
    ("credential", &["files"]),
    ("drill", &["provider"]),
    ("envelope", &["sealer"]),
    ("files", &["place"]),
    (
        "grpc",
        &[
            "cache",
            "clock",
            "daemon",
            "drill",
            "import",
            "key",
            "pkcs11",
            "provider",
            "recovery",
            "reference",
            "refresh",
            "registry",
            "service",
            "tasks",
            "upstream",
            "workloads",
        ],
    ),
    ("hybrid", &["sealer"]),
    ("import", &["breaker", "clock", "provider", "service", "upstream"]),
    ("inflight", &[]),
    ("gate", &[]),
    ("key", &["credential", "files", "pkcs11", "public_key", "reach", "sealer"]),
    ("legacy", &["clock", "hybrid", "reference", "sealer"]),
    // Not the shared cache: a hit waits for nobody.
    ("link", &["cache", "clock", "reference", "upstream"]),
    ("notify", &[]),
    ("payload", &["cache", "clock", "envelope", "reference"]),
    ("place", &[]),
    ("persist", &["cache", "clock", "envelope", "files", "payload", "shared_cache"]),
    ("pkcs11", &["credential", "public_key", "reach", "refusals"]),
    // A proof tells its time.
    (
        "provider",
        &[
            "cache",
            "clock",
            "credential",
            "hybrid",
            "pkcs11",
            "public_key",
            "reach",
            "reference",
            "refusals",
            "sealer",
        ],
    ),
    ("public_key", &[]),
    ("reach", &[]),
    ("recovery", &["sealer"]),
    ("reference", &[]),
    ("reference_file", &["envelope"]),
    ("refusals", &["boot", "clock", "files"]),
    (
        "refresh",
        &["breaker", "cache", "clock", "provider", "reference", "service", "tasks", "upstream"],
    ),
    ("registry", &["clock", "envelope", "files", "link", "reference", "reference_file"]),
    ("sealer", &[]),
    (
        "service",
        &[
            "breaker",
            "cache",
            "clock",
            "drill",
            "gate",
            "inflight",
            "link",
            "provider",
            "reach",
            "reference",
            "reference_file",
            "registry",
            "shared_cache",
            "tasks",
            "upstream",
        ],
    ),
    ("tasks", &[]),
    ("upstream", &["breaker", "clock", "provider", "reference"]),
    (
        "workloads",
        &["breaker", "cache", "clock", "provider", "reference", "registry", "service", "upstream"],
    ),
];

fn daemon() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(|source| source.path.starts_with("daemon/src/"))
}

/// Rule 3 for `service`, rule 5 for `provider` and `key`, and the direction of all calls: down.
#[test]
fn rules_3_and_5_a_room_knows_the_rooms_below_it_and_no_other() {
    for &(room, may_know) in ROOMS {
        let files: Vec<_> = daemon().filter(|source| source.room() == room).collect();
        assert!(!files.is_empty(), "there is no room {room}: correct the rule");
        for file in files {
            // Two levels up is out of the room, by a way that this rule does not see.
            assert!(!file.has("super::super"), "{}", file.path);
            for known in file.rooms() {
                let allowed = known == room || may_know.contains(&known.as_str());
                assert!(allowed, "{} names crate::{known}", file.path);
            }
        }
    }
}

#[test]
fn rule_3_service_touches_no_disk_and_no_wire() {
    for service in daemon().filter(|source| source.room() == "service") {
        for word in
            ["fs", "File", "OpenOptions", "tonic", "psi_proto", "reqwest", "rustix", "process"]
        {
            assert!(!service.has(word), "{} has `{word}`", service.path);
        }
    }
}

/// Rule 4: what property tests and fuzzing work on must be a function of its arguments.
#[test]
fn rule_4_what_is_pure_has_no_tasks_no_disk_no_clock_and_no_environment() {
    let impure =
        ["tokio", "async", "fs", "File", "env", "SystemTime", "Instant", "rustix", "tracing"];
    for room in [
        "cache",
        "envelope",
        "hybrid",
        "legacy",
        "payload",
        "recovery",
        "reference",
        "reference_file",
        "sealer",
    ] {
        let files: Vec<_> = daemon().filter(|source| source.room() == room).collect();
        assert!(!files.is_empty(), "there is no room {room}: correct the rule");
        for source in files {
            for word in impure {
                assert!(!source.has(word), "{} has `{word}`", source.path);
            }
        }
    }
    let agenda = daemon().find(|source| source.path == "daemon/src/refresh/schedule.rs").unwrap();
    for word in ["tokio", "async", "Instant", "getrandom", "tracing"] {
        assert!(!agenda.has(word), "{} has `{word}`", agenda.path);
    }
    // The breaker's one import of tokio is its type of monotonic time.
    let breaker = daemon().find(|source| source.room() == "breaker").unwrap();
    let tokio: Vec<_> = breaker.code.lines().filter(|line| line.contains("tokio")).collect();
    assert_eq!(tokio, ["use tokio::time::Instant;"]);
    assert!(!breaker.has("Instant::now"));
}

/// `main` hands over to the library, and returns.
#[test]
fn a_main_is_short() {
    for path in ["daemon/src/main.rs", "driver/src/main.rs"] {
        let main = sources().into_iter().find(|source| source.path == path).unwrap();
        let lines = main.code.lines().filter(|line| !line.is_empty()).count();
        assert!(lines <= 15, "{path} has {lines} lines");
    }
}
