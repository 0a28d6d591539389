//! The journal of a day: what a host's ordinary traffic writes into the trail. `cargo test -p psi-tests --test service
//! trail_day -- --nocapture` prints the table.

#![expect(clippy::print_stdout, reason = "the table is for people")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};

use psi_harness::{Clock, Config, FakeInfisical, Instance, id, program, reference};

const CONTAINERS: u32 = 50;
/// Secrets of each container.
const SECRETS: u32 = 5;
/// Containers that restart in an hour, each in a turn.
const RESTARTS: u32 = 10;
/// Secrets that get another value in an hour; their containers do not restart.
const ROTATIONS: u32 = 4;
/// A uid without any right, and its calls in each minute of ten.
const STRANGER: u32 = 12_345;
const CALLS: u32 = 30;
const MINUTES: u32 = 10;

struct Day {
    infisical: FakeInfisical,
    instance: Instance,
    clock: Clock,
    groups: PathBuf,
    /// The lookups that were made.
    lookups: u32,
}

impl Day {
    fn secret(container: u32, number: u32) -> u32 {
        container * SECRETS + number + 1
    }

    fn key(container: u32, number: u32) -> String {
        format!("KEY_{}", Self::secret(container, number))
    }

    /// Looks up all secrets of a container as processes of a unit, as podman does at a start and at a health check.
    fn look_up(&mut self, container: u32, unit: &str) {
        let group = self.groups.join(unit);
        fs::create_dir_all(&group).unwrap();
        let ids: Vec<_> = (0..SECRETS).map(|number| id(Self::secret(container, number))).collect();
        let script = format!(
            "echo $$ >{}/cgroup.procs || exit; \
             for SECRET_ID in {}; do export SECRET_ID; {} lookup >/dev/null || exit; done",
            group.display(),
            ids.join(" "),
            program("psi-driver").display(),
        );
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script]).env_clear().env("PSI_SOCKET", self.instance.socket());
        let output = shell.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.lookups += SECRETS;
    }

    fn start(&mut self, container: u32) {
        self.look_up(container, &format!("web-{container}.service"));
    }

    /// A health check: its unit is new with each start of the container, of which this is the number.
    fn check_health(&mut self, container: u32, start: u32) {
        let of_container = format!("{:064x}-{start:x}.service", container + 1_000 * start);
        self.look_up(container, &of_container);
    }
}

impl Drop for Day {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.groups).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.groups);
    }
}

fn secrets() -> Value {
    let all = (0..CONTAINERS).flat_map(|container| (0..SECRETS).map(move |at| (container, at)));
    let all = all.map(|(container, at)| (Day::key(container, at), json!("first")));
    json!({ "/app": all.collect::<Map<_, _>>() })
}

/// 50 containers with 5 secrets each for 24 hours: a boot, health checks, restarts, rotations, a stranger, an admin. The
/// clock moves an hour at a time, and of an hour's 120 health checks two are made.
#[test]
fn ordinary_day_writes_few_records() {
    let infisical = FakeInfisical::with(&secrets());
    let instance = Instance::of(&infisical);
    instance.configure(&Config::of(&infisical).workload("app", "/app", false));
    let clock = Clock::of(&instance);
    let psid = clock.on(instance.psid().with_users_socket(&instance)).start();
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let unified = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
    let groups = PathBuf::from(unified.split(' ').nth(1).unwrap()).join("psi-day.slice");
    let mut day = Day { infisical, instance, clock, groups, lookups: 0 };
    // Setup, some time before.
    for container in 0..CONTAINERS {
        for at in 0..SECRETS {
            let (number, key) = (Day::secret(container, at), Day::key(container, at));
            day.instance.driver(&["store"]).id(id(number)).stdin(reference("/app", &key)).ok();
        }
    }
    let mut starts = [1; CONTAINERS as usize];
    // The boot, and a minute later the first health checks.
    day.clock.advance(Duration::from_secs(3_600));
    (0..CONTAINERS).for_each(|container| day.start(container));
    day.clock.advance(Duration::from_secs(60));
    for hour in 0..24 {
        for container in 0..CONTAINERS {
            (0..2).for_each(|_| day.check_health(container, starts[container as usize]));
        }
        for turn in 0..RESTARTS {
            let container = (hour * RESTARTS + turn) % CONTAINERS;
            starts[container as usize] += 1;
            day.start(container);
        }
        for turn in 0..ROTATIONS {
            let key = Day::key((hour * ROTATIONS + turn) % CONTAINERS, turn);
            day.infisical.put("/app", &key, &format!("value of hour {hour}"));
        }
        day.instance.driver(&["cache", "refresh"]).ok();
        day.clock.advance(Duration::from_secs(3_600));
    }
    for _ in 0..MINUTES {
        for _ in 0..CALLS {
            let call = day.instance.driver(&["lookup"]).id(id(1));
            call.user(&day.instance, STRANGER, STRANGER).fails(77);
        }
        day.clock.advance(Duration::from_secs(60));
    }
    // An admin stores a literal, deletes it, restores it, and asks for the plan.
    day.instance.driver(&["store"]).id(id(9_999)).stdin("a literal").ok();
    day.instance.driver(&["delete"]).id(id(9_999)).ok();
    day.instance.driver(&["restore", &id(9_999)]).ok();
    let refused = u64::from(CALLS * MINUTES);
    assert_eq!(psid.status()["refused_calls"], refused);
    let log = psid.terminate();
    report(&records(&log), &day);
}

/// The records by event.
fn records(log: &str) -> BTreeMap<&str, usize> {
    let mut records = BTreeMap::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once(" event=\"") {
            *records.entry(rest.split('"').next().unwrap()).or_default() += 1;
        }
    }
    records
}

fn report(records: &BTreeMap<&str, usize>, day: &Day) {
    let total: usize = records.values().sum();
    println!("| event | lines in the journal |\n| --- | --- |");
    for (event, count) in records {
        println!("| {event} | {count} |");
    }
    println!("| all | {total} |");
    let health_checks = 24 * 120 * CONTAINERS * SECRETS;
    println!(
        "{} lookups were made. At a health check each 30 s, {} more would be and write nothing.",
        day.lookups,
        health_checks - 24 * 2 * CONTAINERS * SECRETS
    );
    let all = CONTAINERS * SECRETS;
    // Each secret by its unit and by health checks; each new value by health checks, and once more where its container
    // restarts afterwards.
    let rotated = 24 * ROTATIONS;
    let lookups = records["lookup"];
    let [least, most] = [2 * all + rotated - ROTATIONS, 2 * all + 2 * rotated].map(|n| n as usize);
    assert!((least..=most).contains(&lookups), "{least} to {most}: {records:?}");
    // 20 a minute, and how many more there were.
    assert_eq!(records["refusal"], 20 * MINUTES as usize, "{records:?}");
    assert!(records["left-out"].abs_diff(MINUTES as usize) <= 1, "{records:?}");
    assert_eq!((records["delete"], records["restore"]), (1, 1), "{records:?}");
    assert_eq!(records["store"], all as usize + 1, "{records:?}");
    assert!(total < 2_000, "{records:?}");
}
