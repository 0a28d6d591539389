//! One psid, one provider, and one step of what goes wrong between them.

use std::fmt::Write;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::clients::{CLIENTS, Clients};
use super::dice::Dice;
use super::faults::{Class, Fault, Way};
use super::network;
use super::report::{Report, Row};
use super::secrets::{FOLDERS, PROBES, bound, references, register, seeded};
use super::truth::{CONFIRMED_AFTER, Truth, value};
use crate::harness::{Config, Double, Driver, IDENTITY, Psid, World, eventually, reference};

/// What a psid may have in RAM beyond what it had after its first step: the allocator keeps what three
/// lists of 5000 secrets took at their peak, in text, parsed, in the cache and on their way to the disk.
const MAY_GROW_KIB: u64 = 48 * 1024;

pub(super) struct Stage {
    seed: u64,
    steps: u32,
    world: World,
    listener: UnixListener,
    double: Double,
    psid: Option<Psid>,
    /// psid's, since the step began.
    starts: u64,
    clients: Clients,
    truth: Arc<Truth>,
    /// Where each secret is, as [`Truth`] counts them.
    references: Vec<(&'static str, String)>,
    /// Requests to doubles that are gone.
    calls_before: u64,
    /// psid's at its first sample, and the most that it ever had beyond that.
    memory: (Option<u64>, u64, u64),
    report: Report,
}

impl Stage {
    /// Everything works, and every secret is cached and on disk.
    pub(super) fn set_up(seed: u64) -> Self {
        let references = references();
        let double = Double::with_options(&seeded(&references), &["--tls", "valid"]);
        let world = World::of(&double);
        let mut config = Config::of(&double).short_lived().timeout("2s");
        for (path, _) in FOLDERS {
            config = config.workload(&path[1..], path, false);
        }
        world.configure(&config);
        // As systemd has it: who comes while psid is not there waits in the socket.
        let listener = UnixListener::bind(world.socket()).unwrap();
        let psid = world.psid().activated_by(&listener).start();
        let (lookups, names) = register(&world, &references);
        let truth = Arc::new(Truth::of(names));
        world.driver(&["cache", "refresh"]).ok();
        let clients = Clients::start(seed, &truth, &lookups);
        let mut stage = Self {
            seed,
            steps: 0,
            world,
            listener,
            double,
            psid: Some(psid),
            starts: 0,
            clients,
            truth,
            references,
            calls_before: 0,
            memory: (None, 0, 0),
            report: Report::default(),
        };
        stage.settle("at first");
        stage
    }

    /// A fault comes, stays until each client had so many turns, and ends; then everything must be as if
    /// it had not been.
    pub(super) fn step(&mut self, fault: &Fault, turns: u64, dice: &mut Dice) {
        self.steps += 1;
        let probe = format!("P{}", self.steps);
        self.double.put(PROBES, &probe, &value(&probe, 1));
        self.rotate(dice);
        self.starts = 1;
        let (calls, began) = (self.calls(), Instant::now());
        let before = self.truth.lock().counts.clone();
        let removed = self.apply(fault, dice);
        if fault.reaches_control() {
            self.rotate(dice);
        }
        self.let_clients_look_up(2);
        if fault.class == Class::Outage && dice.once_in(3) {
            self.crash();
        }
        let unknown = self.probe(&probe);
        let refresh = code(&self.world.driver(&["cache", "refresh"]));
        self.let_clients_look_up(turns);
        let mut provider = self.provider();
        if matches!(fault.way, Way::BlackHole) {
            write!(provider, " ({} packets dropped)", network::dropped()).unwrap();
        }
        self.bring_back_control(fault);
        let calls = self.calls() - calls;
        let bound = bound(fault.class, began.elapsed(), self.starts);
        let after = self.truth.lock().counts.clone();
        self.report.add(Row {
            fault: fault.name.clone(),
            seconds: began.elapsed().as_secs_f64(),
            served: after.served - before.served,
            refused: after.refused - before.refused,
            unknown,
            refresh,
            provider,
            calls,
            bound,
        });
        if calls > bound {
            self.fail(&format!("{calls} requests to the provider, {bound} are allowed"));
        }
        self.heal(fault, &removed);
        self.settle(&fault.name);
        self.world.driver(&["cache", "invalidate", &reference(PROBES, &probe)]).run();
        self.weigh();
        self.check(&fault.name);
    }

    /// Denied for longer than a minute: refused at last, and back as soon as the provider says so.
    pub(super) fn revoke_for_good(&mut self, dice: &mut Dice) {
        self.steps += 1;
        let denied: Vec<usize> = self.at("/c").collect();
        let allowed = |path| json!({"environment": "*", "pathPrefix": path, "describe": true, "read": true, "write": true});
        let described = json!({"environment": "*", "pathPrefix": "/c", "describe": true, "read": false, "write": false});
        self.double.permit(&json!([allowed("/a"), allowed("/b"), allowed(PROBES), described]));
        denied.iter().for_each(|at| self.truth.lock().deny(*at));
        let began = Instant::now();
        let limit = CONFIRMED_AFTER * 5;
        while !denied.iter().all(|at| self.truth.lock().is_revoked(*at)) {
            assert!(began.elapsed() < limit, "denied for {} s and served", limit.as_secs());
            self.rotate_at(&[dice.below(12)]);
            self.let_clients_look_up(1);
            self.check("denied for good");
        }
        let seconds = began.elapsed().as_secs();
        self.report
            .note(format!("Denied for good: refused by all after {seconds} s, and after a crash."));
        self.let_clients_look_up(10);
        self.crash();
        self.let_clients_look_up(10);
        self.double.permit(&Value::Null);
        denied.iter().for_each(|at| self.truth.lock().give_back(*at));
        self.settle("denied for good");
        self.check("denied for good");
    }

    /// The last words.
    pub(super) fn finish(mut self) {
        self.clients.stop();
        self.check("the end");
        self.write_report();
        drop(self.psid.take().map(Psid::terminate));
    }

    fn apply(&mut self, fault: &Fault, dice: &mut Dice) -> Vec<usize> {
        if fault.class == Class::Denial {
            (0..self.references.len()).for_each(|at| self.truth.lock().deny(at));
        }
        match &fault.way {
            Way::Rules(rules) => self.double.faults(rules),
            Way::Settings(on, _) => self.double.settings(on),
            Way::Rights(rules) => self.double.permit(rules),
            Way::Dialect(dialect) => self.dialect(dialect),
            Way::BlackHole => {
                network::drop_packets_to(self.double.url().split_once("://").unwrap().1);
            }
            Way::Stopped => self.double.signal(Signal::STOP),
            Way::Dead => self.end_double(),
            Way::Restarted => {
                self.end_double();
                self.double.restart();
            }
            Way::Certificate(kind) => self.present(kind),
            Way::Credentials => {
                let refusal = json!({"kind": "status", "code": 401, "error": "UnauthorizedError",
                                     "message": "Invalid credentials"});
                self.double.faults(&json!([{"match": {"method": "POST"}, "fault": refusal}]));
                self.revoke_tokens();
            }
            Way::TokensRevoked => self.revoke_tokens(),
            Way::TokensExpired => self.double.advance(40 * 24 * 3600),
            Way::Crash => self.crash(),
            Way::Stop => self.restart(),
            Way::Reload => self.psid.as_mut().unwrap().reload(),
            Way::Removed => return self.remove_two(dice),
        }
        Vec::new()
    }

    /// What a fault took away from the stage itself, before it counts.
    fn bring_back_control(&mut self, fault: &Fault) {
        match fault.way {
            Way::Stopped => self.double.signal(Signal::CONT),
            Way::Dead => self.double.restart(),
            _ => {}
        }
    }

    fn heal(&mut self, fault: &Fault, removed: &[usize]) {
        match &fault.way {
            Way::Settings(_, off) => self.double.settings(off),
            Way::Rights(_) => self.double.permit(&Value::Null),
            Way::Dialect(_) => self.dialect("v4-2026"),
            Way::BlackHole => network::drop_nothing(),
            Way::Certificate(_) => self.present("valid"),
            _ => self.double.heal(),
        }
        if fault.class == Class::LongPause || matches!(fault.way, Way::Credentials) {
            // Whoever asks for a pause gets it, from an admin too, and a refused login is not repeated
            // for a minute, for three lock an identity. Only another psid knows nothing of it.
            self.restart();
        }
        if fault.class == Class::Denial {
            (0..self.references.len()).for_each(|at| self.truth.lock().give_back(at));
        }
        if removed.is_empty() {
            return;
        }
        // Its listing has told psid of it: from now on a value would be a revoked one.
        self.refreshed("removal");
        self.let_clients_look_up(4);
        for at in removed {
            self.truth.lock().give_back(*at);
        }
        self.rotate_at(removed);
    }

    /// A refresh succeeds, and its outcome is on disk.
    fn settle(&mut self, what: &str) {
        self.refreshed(what);
        let floors = self.truth.lock().floors();
        let status = self.world.driver(&["cache", "status", "--verify", "--json"]).report_json();
        assert_eq!(status["verify"]["ok"], true, "{}: {}", self.place(what), status["verify"]);
        self.truth.lock().keep(&floors);
    }

    fn refreshed(&mut self, what: &str) {
        let place = self.place(what);
        eventually(&format!("a refresh to succeed, {place}"), || {
            let newest = self.truth.lock().newest();
            let outcome = self.world.driver(&["cache", "refresh"]).run();
            (outcome.code == 0).then(|| self.truth.lock().acknowledge(&newest))
        });
    }

    fn check(&mut self, what: &str) {
        let failures = self.truth.lock().failures.clone();
        if failures.is_empty() {
            return;
        }
        self.write_report();
        let log = self.psid.as_ref().map(Psid::log).unwrap_or_default();
        let path = crate::harness::repository().join("target/chaos.log");
        std::fs::write(&path, log).unwrap();
        let (place, log) = (self.place(what), path.display());
        panic!(
            "{place}: {} failures, psid's log is {log}:\n  {}",
            failures.len(),
            failures.join("\n  ")
        );
    }

    fn fail(&self, why: &str) {
        self.truth.lock().failures.push(why.to_owned());
    }

    /// What a failure is told with.
    fn place(&self, what: &str) -> String {
        format!("seed {}, step {} ({what})", self.seed, self.steps)
    }

    fn write_report(&self) {
        let state = self.truth.lock();
        let (_, most, grown) = self.memory;
        let memory = format!(
            "psid had {most} KiB at most, and grew by {grown} KiB at most after its first step \
             ({MAY_GROW_KIB} KiB are allowed)."
        );
        self.report.write(self.seed, &state.counts, &memory, &state.failures);
    }

    fn rotate(&self, dice: &mut Dice) {
        let some: Vec<usize> = (0..3).map(|_| dice.below(self.references.len())).collect();
        // A new value would bring back what was removed.
        let is_there = |at: &usize| self.truth.lock().is_there(*at);
        self.rotate_at(&some.into_iter().filter(is_there).collect::<Vec<_>>());
    }

    fn rotate_at(&self, secrets: &[usize]) {
        for at in secrets {
            let (name, value) = self.truth.lock().rotate(*at);
            self.double.put(self.references[*at].0, &name, &value);
        }
    }

    fn remove_two(&mut self, dice: &mut Dice) -> Vec<usize> {
        let first = dice.below(11);
        for at in [first, first + 1] {
            self.truth.lock().remove(at);
            self.double.remove(self.references[at].0, &self.references[at].1);
        }
        vec![first, first + 1]
    }

    fn crash(&mut self) {
        // Before and after: what the dying one says counts for neither.
        self.truth.lock().crash();
        self.psid.take().unwrap().crash();
        self.truth.lock().crash();
        self.start();
    }

    fn restart(&mut self) {
        self.psid.take().unwrap().terminate();
        self.start();
    }

    fn start(&mut self) {
        self.psid = Some(self.world.psid().activated_by(&self.listener).start());
        self.starts += 1;
        self.memory.0 = None;
    }

    fn end_double(&mut self) {
        self.double.keep_world();
        self.calls_before = self.calls();
        self.double.kill();
    }

    fn present(&mut self, certificate: &str) {
        self.end_double();
        self.double.restart_with_certificate(certificate);
    }

    fn revoke_tokens(&self) {
        self.double.control("POST", "/revoke", &json!({"identityId": IDENTITY}));
    }

    fn dialect(&self, dialect: &str) {
        self.double.control("PUT", "/dialect", &json!({"dialect": dialect}));
    }

    fn calls(&self) -> u64 {
        let stats = self.double.control("GET", "/stats", &Value::Null);
        self.calls_before + stats["requests"].as_u64().unwrap()
    }

    /// Waits until every client has had its turn so often, more or less.
    fn let_clients_look_up(&self, turns: u64) {
        let lookups = || self.truth.lock().counts.lookups;
        for _ in 0..turns {
            let enough = lookups() + CLIENTS;
            eventually("the clients to look up", || (lookups() >= enough).then_some(()));
        }
    }

    fn probe(&self, key: &str) -> String {
        let probe = self.world.driver(&["get", &reference(PROBES, key)]).run();
        if probe.code == 0 && probe.stdout != value(key, 1).as_bytes() {
            self.fail(&format!("{key} got {:?}", String::from_utf8_lossy(&probe.stdout)));
        }
        told(probe.code)
    }

    fn provider(&self) -> String {
        let status = self.world.driver(&["cache", "status", "--json"]).report_json();
        let provider = &status["providers"][0];
        provider["why"].as_str().unwrap_or("up").to_owned()
    }

    /// psid's memory stays what it was.
    fn weigh(&mut self) {
        let pid = self.psid.as_ref().unwrap().process.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let now: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        let first = *self.memory.0.get_or_insert(now);
        let grown = now.saturating_sub(first);
        self.memory = (Some(first), self.memory.1.max(now), self.memory.2.max(grown));
        if grown > MAY_GROW_KIB {
            self.fail(&format!("psid has {now} KiB, and had {first} after its first step"));
        }
    }

    fn at(&self, folder: &'static str) -> impl Iterator<Item = usize> {
        let all = self.references.iter().enumerate();
        all.filter(move |(_, (path, _))| *path == folder).map(|(at, _)| at)
    }
}

fn code(driver: &Driver) -> String {
    told(driver.run().code)
}

fn told(code: i32) -> String {
    if code == 0 { "live".into() } else { code.to_string() }
}
