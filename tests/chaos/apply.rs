//! The start and the end of each fault.

use std::time::Duration;

use serde_json::{Value, json};

use super::faults::{Class, Fault, Way};
use super::network;
use super::random::Random;
use super::secrets::{DIRECTORIES, config, project_of, put_at, references_in};
use super::suite::Suite;
use psi_harness::{IDENTITY, Instance, PROJECT, Signal, identity, rule};

/// Directories of the wide source.
pub(super) const WIDE: u32 = 45;

impl Suite {
    /// Applies a fault; returns the removed secrets.
    pub(super) fn apply(&mut self, fault: &Fault, random: &mut Random) -> Vec<usize> {
        if fault.class == Class::Denial {
            for at in self.hurt(fault) {
                self.model.lock().deny(at);
            }
        }
        match &fault.way {
            Way::Rules(rules) => self.infisical.faults(rules),
            Way::Settings(on, _) => self.infisical.settings(on),
            Way::Rights(rules) => self.infisical.permit(rules),
            Way::Dialect(dialect) => self.dialect(dialect),
            Way::BlackHole => {
                network::drop_packets_to(self.infisical.url().split_once("://").unwrap().1);
            }
            Way::Stopped => self.infisical.signal(Signal::SIGSTOP),
            Way::Dead => self.end_double(),
            Way::Restarted => {
                self.end_double();
                self.infisical.restart();
            }
            Way::Certificate(kind) => self.present(kind),
            Way::Login(who, refusal) => {
                let identities = who.map_or_else(identities, |who| vec![who]);
                let refused = |id: &&str| rule(&json!({"route": "login", "identity": id}), refusal);
                self.infisical.faults(&identities.iter().map(refused).collect());
                identities.into_iter().for_each(|id| self.revoke_tokens(id));
            }
            Way::IdentityDeleted => self.infisical.delete_identity(IDENTITY),
            Way::MembershipEnds => {
                self.infisical.cache_permissions(10);
                self.infisical.end_membership();
            }
            Way::TokensRevoked => identities().into_iter().for_each(|id| self.revoke_tokens(id)),
            Way::TokensExpired => self.infisical.advance(40 * 24 * 3600),
            Way::RouteLost(route) => self.infisical.lose_route_once(route),
            Way::Unreadable(rules) => {
                self.infisical.faults(rules);
                self.infisical.put("/locked", "L1", "locked");
                self.infisical.put("/b", "R", "${prod.locked.L1}");
                let readable = |path| json!({"pathPrefix": path});
                let rules = ["/a", "/b", "/c", "/probes", "/wide"].map(readable);
                self.infisical.permit(&json!(rules));
            }
            Way::Oversized => self.infisical.put("/b", "HUGE", &"x".repeat(600_000)),
            Way::Wide(rules) => {
                self.widen();
                self.infisical.faults(rules);
            }
            Way::Crash => self.crash(),
            Way::Stop => self.restart(),
            Way::Reload => self.psid.as_mut().unwrap().reload(),
            Way::Removed(rules) => {
                self.infisical.faults(rules);
                return self.remove_two(random);
            }
        }
        Vec::new()
    }

    /// Restores the control port, which a fault took from the suite itself.
    pub(super) fn bring_back_control(&mut self, fault: &Fault) {
        match fault.way {
            Way::Stopped => self.infisical.signal(Signal::SIGCONT),
            Way::Dead => self.infisical.restart(),
            _ => {}
        }
    }

    pub(super) fn heal(&mut self, fault: &Fault, removed: &[usize]) {
        match &fault.way {
            Way::Settings(_, off) => self.infisical.settings(off),
            Way::Rights(_) => self.infisical.permit(&Value::Null),
            Way::Dialect(_) => self.dialect("v4-2026"),
            Way::BlackHole => network::drop_nothing(),
            Way::Certificate(_) => self.present("valid"),
            Way::IdentityDeleted => {
                let secret = psi_harness::CLIENT_SECRET;
                self.infisical.put_identity(&identity(IDENTITY, "client", secret));
            }
            Way::MembershipEnds => {
                self.infisical.cache_permissions(0);
                self.infisical.permit(&Value::Null);
            }
            Way::Unreadable(_) => {
                self.infisical.heal();
                self.infisical.permit(&Value::Null);
                self.infisical.remove("/b", "R");
            }
            Way::Oversized => self.infisical.remove("/b", "HUGE"),
            Way::Wide(_) => {
                self.infisical.heal();
                self.refreshed(fault, "the wide source");
                self.instance.configure(&config(&self.infisical));
                self.psid.as_mut().unwrap().reload();
            }
            _ => self.infisical.heal(),
        }
        if fault.class == Class::Denial {
            for at in self.hurt(fault) {
                self.model.lock().give_back(at);
            }
        }
        if removed.is_empty() {
            return;
        }
        // Its listing has reached psid: from now on a value would be a revoked one.
        self.refreshed(fault, "removal");
        self.let_clients_look_up(4);
        for at in removed {
            self.model.lock().give_back(*at);
        }
        self.rotate_at(removed);
    }

    /// The secrets that a fault affects, by number.
    pub(super) fn hurt(&self, fault: &Fault) -> Vec<usize> {
        match fault.hurts {
            None => (0..self.references.len()).collect(),
            Some(place) => {
                let all = self.references.iter().enumerate();
                all.filter(|(_, (path, key))| *path == place || format!("{path}/{key}") == place)
                    .map(|(at, _)| at)
                    .collect()
            }
        }
    }

    pub(super) fn rotate(&self, random: &mut Random) {
        let some: Vec<usize> = (0..3).map(|_| random.below(self.references.len())).collect();
        // A new value would restore what was removed.
        let is_there = |at: &usize| self.model.lock().is_there(*at);
        self.rotate_at(&some.into_iter().filter(is_there).collect::<Vec<_>>());
    }

    /// Rotates one secret of each directory.
    pub(super) fn rotate_everywhere(&self, random: &mut Random) {
        for (directory, _) in DIRECTORIES {
            let there: Vec<usize> = references_in(&self.references, directory)
                .filter(|at| self.model.lock().is_there(*at))
                .collect();
            self.rotate_at(&[*random.pick(&there)]);
        }
    }

    pub(super) fn rotate_at(&self, secrets: &[usize]) {
        for at in secrets {
            let (name, value) = self.model.lock().rotate(*at);
            put_at(&self.infisical, self.references[*at].0, &name, &value);
        }
    }

    fn remove_two(&mut self, random: &mut Random) -> Vec<usize> {
        let first = random.below(11);
        for at in [first, first + 1] {
            let (path, key) = &self.references[at];
            assert_eq!(project_of(path), PROJECT);
            self.model.lock().remove(at);
            self.infisical.remove(path, key);
        }
        vec![first, first + 1]
    }

    pub(super) fn crash(&mut self) {
        // Before and after: the last answers of the old psid count for neither.
        self.model.lock().crash();
        self.psid.take().unwrap().crash();
        self.model.lock().crash();
        self.start();
    }

    fn restart(&mut self) {
        self.psid.take().unwrap().terminate();
        self.start();
    }

    fn start(&mut self) {
        self.psid = Some(self.instance.psid().activated_by(&self.listener).start());
        self.starts += 1;
        self.memory.0 = None;
    }

    fn end_double(&mut self) {
        self.infisical.keep_state();
        self.calls_before = self.calls();
        self.infisical.kill();
    }

    fn present(&mut self, certificate: &str) {
        self.end_double();
        self.infisical.restart_with_certificate(certificate);
    }

    fn revoke_tokens(&self, id: &str) {
        self.infisical.control("POST", "/revoke", &json!({"identityId": id}));
    }

    fn dialect(&self, dialect: &str) {
        self.infisical.control("PUT", "/dialect", &json!({"dialect": dialect}));
    }

    /// Adds a source of many directories, one of which imports another, so that each is listed.
    fn widen(&mut self) {
        for number in 0..WIDE {
            self.infisical.put(&format!("/wide/d{number}"), &format!("W{number}"), "w");
        }
        let imports = |into: &Value| into["path"] == "/wide/d0";
        let state = self.infisical.control("GET", "/state", &Value::Null);
        if !state["projects"][0]["imports"].as_array().unwrap().iter().any(imports) {
            self.infisical.import("/wide/d0", "/c");
        }
        self.instance.configure(&config(&self.infisical).workload("wide", "/wide", true));
        self.psid.as_mut().unwrap().reload();
    }

    pub(super) fn logins(&self) -> u64 {
        self.infisical.control("GET", "/stats", &Value::Null)["logins"].as_u64().unwrap()
    }

    pub(super) fn calls(&self) -> u64 {
        let stats = self.infisical.control("GET", "/stats", &Value::Null);
        self.calls_before + stats["requests"].as_u64().unwrap()
    }
}

/// The ids of both.
fn identities() -> Vec<&'static str> {
    vec![IDENTITY, "other"]
}

/// The interval between attempts of a refresh that has to wait.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(300);

/// Runs `cache refresh`, with `--retry` after a refused login.
pub(super) fn refresh(instance: &Instance, fault: &Fault) -> i32 {
    let was_refused = matches!(fault.way, Way::Login(..) | Way::IdentityDeleted);
    let retry: &[&str] = if was_refused { &["--retry"] } else { &[] };
    instance.driver(&[&["cache", "refresh"], retry].concat()).run().code
}
