//! The caller of an operation, as the kernel identified it and the config authorizes it.

/// The user that stored a registration; none: root, or the user whose psid it is.
pub type Owner = Option<u32>;

/// An authorized caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Root or psid's own user, which may do everything.
    Admin,
    /// The user with this uid, limited to its own registrations and to the workloads that name it.
    User(u32),
}

impl Principal {
    /// The owner of what it stores.
    pub fn as_owner(self) -> Owner {
        match self {
            Self::Admin => None,
            Self::User(uid) => Some(uid),
        }
    }

    /// Whether it may use a registration of this owner. To all others, the registration does not exist.
    pub fn may_use(self, owner: Owner) -> bool {
        self == Self::Admin || self.as_owner() == owner
    }
}
