//! All of the server's state.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::api::limiter::Limiter;
use crate::api::tags::Etags;
use crate::auth::permissions::PermissionCache;
use crate::auth::tokens::TokenLedger;
use crate::clock::Clock;
use crate::dialect::Dialect;
use crate::fault::rules::FaultRules;
use crate::journal::Journal;
use crate::metadata::Sessions;
use crate::settings::Settings;
use crate::state::State;

pub struct FakeInfisical {
    pub clock: Clock,
    pub dialect: Dialect,
    pub settings: Settings,
    pub state: State,
    pub tokens: TokenLedger,
    pub sessions: Sessions,
    pub limiter: Limiter,
    pub permissions: PermissionCache,
    pub etags: Etags,
    pub faults: FaultRules,
    pub journal: Journal,
}

impl FakeInfisical {
    pub fn new(dialect: Dialect, state: State) -> Self {
        Self {
            clock: Clock::default(),
            dialect,
            settings: Settings::default(),
            state,
            tokens: TokenLedger::default(),
            sessions: Sessions::default(),
            limiter: Limiter::default(),
            permissions: PermissionCache::default(),
            etags: Etags::default(),
            faults: FaultRules::default(),
            journal: Journal::default(),
        }
    }
}

/// The fake, shared by the ports.
#[derive(Clone)]
pub struct Shared {
    fake: Arc<Mutex<FakeInfisical>>,
    /// Notified at each arrival, for the control port's waiting count
    pub arrivals: Arc<Notify>,
}

impl Shared {
    pub fn new(fake: FakeInfisical) -> Self {
        Self { fake: Arc::new(Mutex::new(fake)), arrivals: Arc::new(Notify::new()) }
    }

    /// A handler that panicked has lost its own request only.
    pub fn lock(&self) -> MutexGuard<'_, FakeInfisical> {
        self.fake.lock()
    }
}
