//! The kinds of tries, and the answers that each may have.

use tonic::Code;

use Kind::{
    CacheStatus, Delete, Invalidate, List, LookupById, LookupByName, LookupByReference, NoteName,
    Plan, Refresh, Registrations, RepointId, RepointToReference, Restorable, Restore,
    StoreReference, StoreUnderId,
};

/// A kind of try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LookupById,
    LookupByName,
    LookupByReference,
    StoreUnderId,
    StoreReference,
    Restore,
    Delete,
    RepointId,
    RepointToReference,
    NoteName,
    Invalidate,
    List,
    Restorable,
    Registrations,
    CacheStatus,
    Plan,
    Refresh,
}

/// The kinds, in the order of the tries: deleted ids can be restored for ten minutes only.
pub(crate) const KINDS: [Kind; 17] = [
    Restore,
    Restorable,
    LookupById,
    LookupByName,
    LookupByReference,
    StoreUnderId,
    StoreReference,
    Delete,
    RepointId,
    RepointToReference,
    NoteName,
    Invalidate,
    List,
    Registrations,
    CacheStatus,
    Plan,
    Refresh,
];

impl Kind {
    /// The answers that a foreign target may have.
    pub(crate) fn permitted(self) -> &'static [Code] {
        match self {
            LookupById | Restore | RepointId => &[Code::NotFound],
            LookupByName | LookupByReference | StoreUnderId | StoreReference
            | RepointToReference | Invalidate => &[Code::PermissionDenied],
            Delete | List | Restorable | Registrations | NoteName | CacheStatus | Plan => {
                &[Code::Ok]
            }
            Refresh => &[Code::Ok, Code::ResourceExhausted],
        }
    }

    /// Whether the answer for something that nobody has is the same. A store under an unknown id stores.
    pub(crate) fn is_compared(self) -> bool {
        matches!(
            self,
            LookupById
                | LookupByName
                | LookupByReference
                | Restore
                | Delete
                | RepointId
                | NoteName
                | Invalidate
        )
    }
}
