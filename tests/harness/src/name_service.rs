//! The name service of a psid, by which it finds the uids of users.

use std::fs;
use std::path::PathBuf;

use crate::preload::preload_library;
use crate::{Instance, Start};

/// The users that the name service has; a test changes them while psid runs.
pub struct NameService {
    path: PathBuf,
}

impl NameService {
    /// A name service with lines `NAME UID`. For the uid `hang` it never answers, and for `fail` it has an error.
    pub fn of(instance: &Instance, users: &str) -> Self {
        let service = Self { path: instance.run().join("name-service") };
        service.set(users);
        service
    }

    /// Replaces its users.
    pub fn set(&self, users: &str) {
        let new = self.path.with_extension("new");
        fs::write(&new, users).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    /// A psid that asks it.
    pub fn on(&self, start: Start) -> Start {
        let library = preload_library("tests/harness/src/name_service.c");
        start.env("LD_PRELOAD", library).env("PSI_USERS", &self.path)
    }
}
