//! The count of changes that must be persisted, and a call after each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

type Observer = Arc<dyn Fn() + Send + Sync>;

/// Counts changes.
#[derive(Default)]
pub(super) struct Changes {
    count: AtomicU64,
    observer: Mutex<Option<Observer>>,
}

impl Changes {
    /// Counts a change that was made.
    pub(super) fn note(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        let observer = self.observer.lock().clone();
        if let Some(observer) = observer {
            observer();
        }
    }

    /// The changes so far. Whoever reads the count sees them.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Calls `observer` after each change from now on.
    pub(super) fn observe(&self, observer: impl Fn() + Send + Sync + 'static) {
        *self.observer.lock() = Some(Arc::new(observer));
    }
}
