//! The server's cache of permissions, which is some seconds old.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::clock::Millis;
use crate::state::permission::Permission;
use crate::state::project::Project;

/// By project and identity.
#[derive(Default)]
pub struct PermissionCache {
    read: RefCell<HashMap<(String, String), CachedPermission>>,
}

struct CachedPermission {
    at: Millis,
    /// `None` for an identity that is no member
    permission: Option<Permission>,
}

impl PermissionCache {
    /// The identity's permissions in the project, as read within the last `keep` milliseconds.
    pub fn of(
        &self,
        project: &Project,
        identity: &str,
        now: Millis,
        keep: Millis,
    ) -> Option<Permission> {
        let mut read = self.read.borrow_mut();
        let key = (project.id.clone(), identity.to_owned());
        match read.get(&key) {
            Some(known) if now < known.at + keep => known.permission.clone(),
            _ => {
                let permission = project.permission_of(identity);
                read.insert(key, CachedPermission { at: now, permission: permission.clone() });
                permission
            }
        }
    }

    pub fn clear(&self) {
        self.read.borrow_mut().clear();
    }
}
