//! The reasons why psid is degraded.

use std::cell::LazyCell;

use psi_common::SecretId;

use super::{DegradedReason, Runtime};
use crate::cache::RemovalReason;
use crate::grpc::control::Degradation;
use crate::model::clock;
use crate::provider::Urgency;
use crate::registry::Registered;

/// The number of unusable secrets that are listed one by one.
const MAX_SECRETS: usize = 5;

/// The reasons found so far.
struct Reasons(Vec<Degradation>);

impl Reasons {
    fn add(&mut self, cause: &'static str, why: impl Into<String>) {
        self.0.push(Degradation { cause, why: why.into() });
    }
}

impl Runtime {
    /// Records a degradation; logs it once.
    pub fn degrade(&self, reason: DegradedReason, why: &str) {
        let known = self.degraded.lock().insert(reason, why.to_owned());
        if known.as_deref() != Some(why) {
            tracing::warn!(?reason, "{why}");
        }
    }

    /// Ends a degradation.
    pub fn recover(&self, reason: DegradedReason) {
        self.degraded.lock().remove(&reason);
    }

    /// The reasons why psid is degraded, one sentence each.
    pub fn degraded(&self) -> Vec<Degradation> {
        let mut reasons = Reasons(Vec::new());
        for (reason, why) in &*self.degraded.lock() {
            reasons.add(reason.cause(), why.as_str());
        }
        let backend = self.backend.as_ref().map(|backend| backend.tag());
        if let Some(drift) = self.in_force.drift(backend) {
            reasons.add(drift.cause, drift.why);
        }
        if !self.service.readiness().is_ready() {
            reasons.add("key-opening", "the key is being opened, and lookups that need it wait");
        }
        for why in self.service.tasks().degraded(clock::now().mono) {
            reasons.add("task", why);
        }
        self.add_storage(&mut reasons);
        self.add_providers(&mut reasons);
        self.add_cache(&mut reasons);
        self.add_secrets(&mut reasons);
        reasons.0
    }

    /// Files that cannot be read or written.
    fn add_storage(&self, reasons: &mut Reasons) {
        if let Some(why) = self.persister().and_then(|persister| persister.state().error) {
            let path = self.cache_path.display();
            reasons.add(
                "cache-write",
                format!(
                    "{path} cannot be written: {why}; check the disk: psid keeps trying, and a restart would lose fetched \
                     values"
                ),
            );
        }
        if let Some(why) = self.service.registry().fault() {
            let why = format!("the registered secrets cannot be read, which is tried again: {why}");
            reasons.add("registry-unreadable", why);
        }
        if let Some(why) = self.service.registry().trash_fault() {
            let why = format!("the deleted secrets cannot be read, which is tried again: {why}");
            reasons.add("trash-unreadable", why);
        }
    }

    /// Logins and providers that fail.
    fn add_providers(&self, reasons: &mut Reasons) {
        let now = clock::now().wall;
        for upstream in self.service.upstreams().providers.values() {
            let faults = upstream.provider.login_faults();
            for why in &faults {
                reasons.add("login", why.as_str());
            }
            for expiry in upstream.provider.expiring_credentials() {
                // A login that fails names the credential itself.
                let is_reported = faults.iter().any(|why| why.contains(&expiry.identity));
                let warning = expiry.warning(now, Urgency::Alarm).filter(|_| !is_reported);
                if let Some(warning) = warning {
                    reasons.add("login-expiry", warning.to_string());
                }
            }
            if faults.is_empty()
                && let Some(why) = upstream.last_refusal()
            {
                let why = format!("{} answers with an error: {why}", upstream.name);
                reasons.add("provider-refuses", why);
            }
        }
    }

    /// Values that are served although the provider or the config says otherwise.
    fn add_cache(&self, reasons: &mut Reasons) {
        let withheld = self.service.cache().withheld();
        let past_max_stale = self.service.cache().past_max_stale(clock::now().boot);
        let reasons_of = withheld.iter().map(|(_, pending)| pending.reason);
        let is_unlisted =
            |why: &RemovalReason| matches!(why, RemovalReason::Unlisted | RemovalReason::Emptied);
        let unlisted = reasons_of.filter(is_unlisted).count();
        let revoked = withheld.len() - unlisted;
        if revoked > 0 {
            let secrets = count_secrets(revoked);
            reasons.add(
                "revoked",
                format!(
                    "the provider reports {secrets} as gone or denied, which psid serves until a second report; to remove \
                     them now, run `psictl cache refresh --accept-removals`"
                ),
            );
        }
        if unlisted > 0 {
            let secrets = count_secrets(unlisted);
            reasons.add(
                "withheld",
                format!(
                    "a refresh would have removed or emptied {secrets}, more than one may, and psid keeps the old values until \
                     another refresh confirms it; to accept it now, run `psictl cache refresh --accept-removals`"
                ),
            );
        }
        if past_max_stale > 0 {
            let secrets = count_secrets(past_max_stale);
            reasons.add(
                "past-max-stale",
                format!(
                    "{secrets} older than max_stale, served because of a use since the boot, as containers may run with them; \
                     run `psictl cache refresh` to see why no newer value arrives"
                ),
            );
        }
    }

    /// Registered secrets that cannot be used.
    fn add_secrets(&self, reasons: &mut Reasons) {
        let registry = self.service.registry().all();
        let names = LazyCell::new(|| self.service.registry().names());
        let shown = |id: &SecretId| match names.get(id) {
            Some(known) => format!("secret {} ({id})", known.name),
            None => format!("secret {id}"),
        };
        let mut unusable = registry.iter().filter_map(|(id, registered)| match registered {
            Registered::Invalid(why) => Some(format!("{} is not usable: {why}", shown(id))),
            Registered::Unreadable(why) => {
                Some(format!("{} cannot be read, which is tried again: {why}", shown(id)))
            }
            _ => None,
        });
        for why in unusable.by_ref().take(MAX_SECRETS) {
            reasons.add("secret", why);
        }
        match unusable.count() {
            0 => {}
            1 => reasons.add("secret", "and 1 more secret is not usable"),
            more => reasons.add("secret", format!("and {more} more secrets are not usable")),
        }
    }
}

impl DegradedReason {
    /// An identifier that does not change.
    fn cause(self) -> &'static str {
        match self {
            Self::State => "state-directory",
            Self::Key => "key",
            Self::Rekey => "rekey",
            Self::Recovery => "recovery-key",
            Self::Cache => "cache-file",
            Self::Provider => "provider-config",
            Self::User => "workload-user",
        }
    }
}

/// "1 cached secret", "2 cached secrets".
fn count_secrets(count: usize) -> String {
    if count == 1 { "1 cached secret".into() } else { format!("{count} cached secrets") }
}
