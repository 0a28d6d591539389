//! What a workload wants done when a value changed that its units started with.

use std::time::Duration;

/// The action, and how it is spread over the hosts that have the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OnChange {
    /// What is done.
    pub action: ChangeAction,
    /// The longest random delay before it.
    pub max_jitter: Duration,
}

/// What is done to the units of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ChangeAction {
    /// Nothing; psictl reports them.
    #[default]
    None,
    /// They are restarted, and podman reads the secrets again.
    Restart,
    /// Its files are rendered again, and its units reloaded.
    Reload,
}
