//! One psid, one provider, and one step of faults between them.

use std::fmt::Write;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::apply::{TRY_AGAIN, WIDE, refresh};
use super::clients::{CLIENTS, Clients};
use super::faults::{Class, Fault, Way};
use super::model::{CONFIRMED_AFTER, Model, value};
use super::network;
use super::random::Random;
use super::report::{Report, Row};
use super::secrets::{PROBES, bound, config, references, references_in, register, seeded};
use psi_harness::{Driver, FakeInfisical, Instance, Psid, eventually, reference};

/// Each project has its own.
const IDENTITIES: u64 = 2;
/// The limit for psid's recovery: a provider may have asked it to wait for a minute.
const RECOVERS_IN: Duration = Duration::from_secs(100);

/// The permitted growth of psid's RAM after its first step: the allocator keeps the peak of three
/// listings of 5000 secrets, as text, parsed, in the cache and on their way to the disk.
const MAY_GROW_KIB: u64 = 48 * 1024;

pub(super) struct Suite {
    seed: u64,
    steps: u32,
    pub(super) instance: Instance,
    pub(super) listener: UnixListener,
    pub(super) infisical: FakeInfisical,
    pub(super) psid: Option<Psid>,
    /// Starts of psid since the step began.
    pub(super) starts: u64,
    clients: Clients,
    pub(super) model: Arc<Model>,
    /// The path of each secret, in the order of [`Model`].
    pub(super) references: Vec<(&'static str, String)>,
    /// Requests to former fakes.
    pub(super) calls_before: u64,
    /// psid's RAM at its first sample, and the largest growth.
    pub(super) memory: (Option<u64>, u64, u64),
    report: Report,
}

impl Suite {
    /// Starts with every secret cached and on disk, and without a fault.
    pub(super) fn set_up(seed: u64) -> Self {
        let references = references();
        let infisical = FakeInfisical::launch(&seeded(&references), &["--tls", "valid"]);
        let instance = Instance::of(&infisical);
        instance.configure(&config(&infisical));
        // As with systemd: callers wait in the socket's queue while psid is not running.
        let listener = UnixListener::bind(instance.socket()).unwrap();
        let psid = instance.psid().activated_by(&listener).start();
        let (lookups, names) = register(&instance, &references);
        let model = Arc::new(Model::of(names));
        instance.driver(&["cache", "refresh"]).ok();
        let clients = Clients::start(seed, &model, &lookups);
        let mut suite = Self {
            seed,
            steps: 0,
            instance,
            listener,
            infisical,
            psid: Some(psid),
            starts: 0,
            clients,
            model,
            references,
            calls_before: 0,
            memory: (None, 0, 0),
            report: Report::default(),
        };
        suite.settle(&Fault::none("at first"));
        suite
    }

    /// A fault begins, lasts until each client had so many turns, and ends; then everything must be
    /// as before.
    pub(super) fn step(&mut self, fault: &Fault, turns: u64, random: &mut Random) {
        self.steps += 1;
        let probe = format!("P{}", self.steps);
        self.infisical.put(PROBES, &probe, &value(&probe, 1));
        self.rotate(random);
        self.starts = 1;
        let (calls, began) = (self.calls(), Instant::now());
        let before = self.model.lock().counts.clone();
        let removed = self.apply(fault, random);
        let logins = if fault.class == Class::LoginRefused { self.logins() } else { 0 };
        if fault.class == Class::Partial {
            self.rotate_everywhere(random);
        } else if fault.reaches_control() {
            self.rotate(random);
        }
        self.let_clients_look_up(2);
        if matches!(fault.way, Way::MembershipEnds) {
            // Until now the provider used its cached permissions.
            self.infisical.advance(10);
        }
        if matches!(fault.class, Class::Outage | Class::LoginRefused) && random.once_in(3) {
            self.crash();
        }
        let unknown = self.probe(&probe);
        let newest = self.model.lock().newest();
        let refresh = code(&self.instance.driver(&["cache", "refresh"]));
        if fault.class == Class::Partial {
            self.others_are_well(fault, &newest, &unknown);
        }
        self.let_clients_look_up(turns);
        let mut provider = self.provider();
        if matches!(fault.way, Way::BlackHole) {
            write!(provider, " ({} packets dropped)", network::dropped()).unwrap();
        }
        self.bring_back_control(fault);
        let calls = self.calls() - calls;
        let wide = if matches!(fault.way, Way::Wide(_)) { 2 * u64::from(WIDE) } else { 0 };
        let bound = bound(fault.class, began.elapsed(), self.starts, wide);
        let after = self.model.lock().counts.clone();
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
        if fault.class == Class::LoginRefused {
            self.logins_are_few(logins);
        }
        self.heal(fault, &removed);
        self.settle(fault);
        self.instance.driver(&["cache", "invalidate", &reference(PROBES, &probe)]).run();
        self.weigh();
        self.check(&fault.name);
    }

    /// The admin's refresh has just been answered: secrets that the fault does not affect are up to
    /// date from now on, and an uncached secret was served.
    fn others_are_well(&mut self, fault: &Fault, newest: &[u64], unknown: &str) {
        let hurt = fault.hurts.map(|_| self.hurt(fault)).unwrap_or_default();
        self.model.lock().acknowledge(newest, |at| !hurt.contains(&at));
        if unknown != "live" {
            self.fail(&format!("{}: a new secret beside it got {unknown}", fault.name));
        }
        let provider = self.provider();
        if provider != "up" {
            self.fail(&format!("{}: psid says of its provider: {provider}", fault.name));
        }
    }

    /// A refused login is tried once, for all callers and restarts: three failures lock an identity
    /// for every host.
    fn logins_are_few(&mut self, before: u64) {
        let logins = self.logins() - before;
        if logins > IDENTITIES {
            self.fail(&format!("{logins} logins that were refused, for {IDENTITIES} identities"));
        }
    }

    /// Denied for longer than a minute: refused at last, and served again as soon as the provider
    /// permits it.
    pub(super) fn revoke_for_good(&mut self, random: &mut Random) {
        self.steps += 1;
        let denied: Vec<usize> = references_in(&self.references, "/c").collect();
        let allowed = |path| json!({"environment": "*", "pathPrefix": path, "describe": true, "read": true, "write": true});
        let described = json!({"environment": "*", "pathPrefix": "/c", "describe": true, "read": false, "write": false});
        self.infisical.permit(&json!([allowed("/a"), allowed("/b"), allowed(PROBES), described]));
        denied.iter().for_each(|at| self.model.lock().deny(*at));
        let began = Instant::now();
        let limit = CONFIRMED_AFTER * 5;
        while !denied.iter().all(|at| self.model.lock().is_revoked(*at)) {
            assert!(began.elapsed() < limit, "denied for {} s and served", limit.as_secs());
            self.rotate_at(&[random.below(12)]);
            self.let_clients_look_up(1);
            self.check("denied for good");
        }
        let seconds = began.elapsed().as_secs();
        self.report
            .note(format!("Denied for good: refused by all after {seconds} s, and after a crash."));
        self.let_clients_look_up(10);
        self.crash();
        self.let_clients_look_up(10);
        self.infisical.permit(&Value::Null);
        denied.iter().for_each(|at| self.model.lock().give_back(*at));
        self.settle(&Fault::none("denied for good"));
        self.check("denied for good");
    }

    /// Writes the report and checks the totals.
    pub(super) fn finish(mut self) {
        self.clients.stop();
        self.check("the end");
        self.write_report();
        drop(self.psid.take().map(Psid::terminate));
    }

    /// Waits until a refresh succeeds and its result is on disk.
    fn settle(&mut self, fault: &Fault) {
        self.refreshed(fault, &fault.name);
        let floors = self.model.lock().floors();
        let status = self.instance.driver(&["cache", "status", "--verify", "--json"]).report_json();
        let place = self.place(&fault.name);
        assert_eq!(status["verify"]["ok"], true, "{place}: {}", status["verify"]);
        self.model.lock().keep(&floors);
        if !matches!(fault.way, Way::RouteLost(_)) {
            return;
        }
        self.infisical.clear_log();
        self.refreshed(fault, &fault.name);
        let reads =
            ["v3", "v4"].map(|api| self.infisical.count("GET", &format!("/api/{api}/secrets")));
        if reads[0] > 0 || reads[1] == 0 {
            self.fail(&format!(
                "{}: read {} times by v3, {} by v4",
                fault.name, reads[0], reads[1]
            ));
        }
    }

    /// Waits until a refresh succeeds.
    pub(super) fn refreshed(&mut self, fault: &Fault, what: &str) {
        let began = Instant::now();
        loop {
            let newest = self.model.lock().newest();
            if refresh(&self.instance, fault) == 0 {
                return self.model.lock().acknowledge(&newest, |_| true);
            }
            let place = self.place(what);
            assert!(began.elapsed() < RECOVERS_IN, "no refresh succeeded, {place}");
            std::thread::sleep(TRY_AGAIN);
        }
    }

    fn check(&mut self, what: &str) {
        let failures = self.model.lock().failures.clone();
        if failures.is_empty() {
            return;
        }
        self.write_report();
        let log = self.psid.as_ref().map(Psid::log).unwrap_or_default();
        let path = psi_harness::repository().join("target/chaos.log");
        std::fs::write(&path, log).unwrap();
        let (place, log) = (self.place(what), path.display());
        panic!(
            "{place}: {} failures, psid's log is {log}:\n  {}",
            failures.len(),
            failures.join("\n  ")
        );
    }

    fn fail(&self, why: &str) {
        self.model.lock().failures.push(why.to_owned());
    }

    /// The context of a failure message.
    pub(super) fn place(&self, what: &str) -> String {
        format!("seed {}, step {} ({what})", self.seed, self.steps)
    }

    fn write_report(&self) {
        let state = self.model.lock();
        let (_, most, grown) = self.memory;
        let memory = format!(
            "psid had {most} KiB at most, and grew by {grown} KiB at most after its first step \
             ({MAY_GROW_KIB} KiB are allowed)."
        );
        self.report.write(self.seed, &state.counts, &memory, &state.failures);
    }

    /// Waits until every client had about so many turns.
    pub(super) fn let_clients_look_up(&self, turns: u64) {
        let lookups = || self.model.lock().counts.lookups;
        for _ in 0..turns {
            let enough = lookups() + CLIENTS;
            eventually("the clients to look up", || (lookups() >= enough).then_some(()));
        }
    }

    fn probe(&self, key: &str) -> String {
        let probe = self.instance.driver(&["get", &reference(PROBES, key)]).run();
        if probe.code == 0 && probe.stdout != value(key, 1).as_bytes() {
            self.fail(&format!("{key} got {:?}", String::from_utf8_lossy(&probe.stdout)));
        }
        status_text(probe.code)
    }

    fn provider(&self) -> String {
        let status = self.instance.driver(&["cache", "status", "--json"]).report_json();
        let provider = &status["providers"][0];
        provider["reason"].as_str().unwrap_or("up").to_owned()
    }

    /// Checks that psid's RAM does not grow.
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
}

fn code(driver: &Driver) -> String {
    status_text(driver.run().code)
}

fn status_text(code: i32) -> String {
    if code == 0 { "live".into() } else { code.to_string() }
}
