//! What one user may register. Each literal is locked in RAM, and each registration is a file.

use std::sync::Arc;

use super::{Principal, Registered, Registration, Registry, RegistryError, Turn};
use crate::model::clock::Now;

/// Registrations of one user.
const MAX_REGISTRATIONS: usize = 2_000;
/// Literals of one user.
const MAX_LITERALS: usize = 200;
/// Bytes of one user's literals and references.
const MAX_BYTES: usize = 16 << 20;
/// Deleted registrations of one user that can be restored; older ones are removed for good.
const MAX_DELETED: usize = 64;

impl Registry {
    /// Waits for a user's turn to change something.
    pub(super) async fn turn(&self, caller: Principal) -> Turn {
        match caller {
            Principal::Admin => None,
            Principal::User(_) => Arc::clone(&self.users_turn).acquire_owned().await.ok(),
        }
    }

    /// Checks whether a user may register this too; returns the bytes that it counts for.
    pub(super) fn check_quota(
        &self,
        new: &Registration,
        caller: Principal,
    ) -> Result<usize, RegistryError> {
        let bytes = match new {
            Registration::Literal(data) | Registration::Reference(_, data) => data.len(),
        };
        let Principal::User(uid) = caller else { return Ok(bytes) };
        let (mut count, mut literals, mut total) = (1, 0, bytes);
        literals += usize::from(matches!(new, Registration::Literal(_)));
        for known in self.known.read().secrets.values() {
            if known.owner == Some(uid) {
                count += 1;
                literals += usize::from(!matches!(known.what, Registered::Reference(_)));
                total += known.bytes;
            }
        }
        let quota = |what: String| Err(RegistryError::Quota(format!("uid {uid} has {what}")));
        if count > MAX_REGISTRATIONS {
            return quota(format!("{MAX_REGISTRATIONS} secrets registered, the most for one user"));
        }
        if matches!(new, Registration::Literal(_)) && literals > MAX_LITERALS {
            return quota(format!("{MAX_LITERALS} literals registered, the most for one user"));
        }
        if total > MAX_BYTES {
            let most = MAX_BYTES >> 20;
            return quota(format!("no room for it: {most} MiB are the most for one user"));
        }
        Ok(bytes)
    }

    /// Removes a user's oldest deleted registrations beyond the limit.
    pub(super) fn bound_trash(&self, caller: Principal, now: Now) {
        if let Principal::User(uid) = caller {
            let all = self.trash.oldest_of(uid, now);
            for id in all.iter().take(all.len().saturating_sub(MAX_DELETED)) {
                self.trash.remove(*id);
            }
        }
    }
}
