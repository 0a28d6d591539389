//! The user whose podman runs a workload.

use std::sync::{Arc, OnceLock};

/// A user of the config. The uid of a name is found later, off the lookup's path.
#[derive(Clone, Debug)]
pub enum WorkloadUser {
    /// By its uid.
    Uid(u32),
    /// By its name, and its uid once that is known.
    Name(String, Arc<OnceLock<u32>>),
}

impl WorkloadUser {
    /// A user by name, whose uid is not known yet.
    pub fn named(name: String) -> Self {
        Self::Name(name, Arc::default())
    }

    /// The uid, if it is known.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Uid(uid) => Some(*uid),
            Self::Name(_, uid) => uid.get().copied(),
        }
    }

    /// The name, if the uid is not known.
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Self::Name(name, uid) if uid.get().is_none() => Some(name),
            _ => None,
        }
    }

    /// Notes the uid; the first one counts.
    pub fn set_uid(&self, found: u32) {
        if let Self::Name(_, uid) = self {
            let _ = uid.set(found);
        }
    }
}

impl std::fmt::Display for WorkloadUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "{uid}"),
            Self::Name(name, _) => f.write_str(name),
        }
    }
}

impl PartialEq for WorkloadUser {
    /// As configured.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Uid(one), Self::Uid(other)) => one == other,
            (Self::Name(one, _), Self::Name(other, _)) => one == other,
            _ => false,
        }
    }
}

impl Eq for WorkloadUser {}
