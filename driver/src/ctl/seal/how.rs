//! How a credential is sealed: the flags of systemd-creds(1), by its version and scope.

use std::fmt;

use psi_common::{Scope, SealMode};

use super::is_system;

/// systemd 252 seals with an empty `--tpm2-pcrs=` what it cannot open.
const NO_PCRS_SINCE: u32 = 253;

/// What an admin asks for; the rest is chosen here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ctl) struct SealWish {
    /// What to seal to.
    pub(in crate::ctl) with_key: Option<SealMode>,
    /// The PCRs; empty for none.
    pub(in crate::ctl) pcrs: Option<String>,
}

/// The flags of `systemd-creds encrypt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) struct SealFlags {
    with_key: SealMode,
    /// `None`: systemd's own default.
    pcrs: Option<String>,
}

/// The flags to try, in this order: the first that seal and open are taken. Empty if this systemd seals nothing in
/// the scope.
pub(in crate::ctl) fn candidates(version: u32, scope: Scope, wish: &SealWish) -> Vec<SealFlags> {
    let flags =
        |with_key, pcrs: Option<&str>| SealFlags { with_key, pcrs: pcrs.map(str::to_owned) };
    if !is_system(scope) {
        if version < super::USER_SCOPE_SINCE {
            return Vec::new();
        }
        // A service of systemd seals for a user, and chooses the PCRs itself.
        return vec![flags(wish.with_key.unwrap_or(SealMode::Auto), None)];
    }
    let with_key = wish.with_key.unwrap_or(SealMode::Tpm2);
    match (with_key, wish.pcrs.as_deref()) {
        (SealMode::Host, _) => vec![flags(SealMode::Host, None)],
        (_, Some(pcrs)) => vec![flags(with_key, Some(pcrs))],
        // Bound to the TPM and to no PCR: psid can log in although the firmware has changed.
        (_, None) if version >= NO_PCRS_SINCE => {
            vec![flags(with_key, Some("")), flags(with_key, None)]
        }
        (_, None) => vec![flags(with_key, None)],
    }
}

impl SealFlags {
    /// Flags without PCRs of their own.
    pub(in crate::ctl) fn with(with_key: SealMode) -> Self {
        Self { with_key, pcrs: None }
    }

    /// The same flags with these PCRs.
    pub(in crate::ctl) fn and_pcrs(self, pcrs: &str) -> Self {
        Self { pcrs: Some(pcrs.to_owned()), ..self }
    }

    /// What they seal to.
    pub(in crate::ctl) fn with_key(&self) -> SealMode {
        self.with_key
    }

    /// Whether sealing takes the TPM.
    pub(in crate::ctl) fn needs_tpm(&self) -> bool {
        matches!(self.with_key, SealMode::Tpm2 | SealMode::HostTpm2)
    }

    /// As arguments.
    pub(super) fn args(&self) -> Vec<String> {
        let mut args = vec![format!("--with-key={}", self.with_key)];
        args.extend(self.pcrs.as_ref().map(|pcrs| format!("--tpm2-pcrs={pcrs}")));
        args
    }
}

/// `to this host's TPM`, for messages.
impl fmt::Display for SealFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.with_key {
            SealMode::Tpm2 => "to this host's TPM",
            SealMode::Host => "to this host's own key",
            SealMode::HostTpm2 => "to this host's TPM and own key",
            SealMode::Auto => "to what systemd chooses",
        })?;
        match self.pcrs.as_deref() {
            _ if !self.needs_tpm() => Ok(()),
            None => f.write_str(" (PCRs as systemd chooses)"),
            Some("") => f.write_str(" (no PCRs)"),
            Some(pcrs) => write!(f, " (PCRs {pcrs})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(version: u32, scope: Scope, wish: &SealWish) -> Vec<String> {
        candidates(version, scope, wish).iter().map(|flags| flags.args().join(" ")).collect()
    }

    #[test]
    fn candidates_follow_the_version_of_systemd() {
        let none = SealWish::default();
        assert_eq!(shown(252, Scope::System, &none), ["--with-key=tpm2"]);
        let newer = ["--with-key=tpm2 --tpm2-pcrs=", "--with-key=tpm2"];
        assert_eq!(shown(253, Scope::System, &none), newer);
        assert_eq!(shown(260, Scope::System, &none), newer);
    }

    #[test]
    fn candidates_follow_what_is_asked_for() {
        let wish =
            |with_key, pcrs: Option<&str>| SealWish { with_key, pcrs: pcrs.map(str::to_owned) };
        let host = wish(Some(SealMode::Host), Some("7"));
        assert_eq!(shown(257, Scope::System, &host), ["--with-key=host"]);
        let pcrs = wish(None, Some("7+11"));
        assert_eq!(shown(252, Scope::System, &pcrs), ["--with-key=tpm2 --tpm2-pcrs=7+11"]);
        let both = wish(Some(SealMode::HostTpm2), None);
        assert_eq!(shown(257, Scope::System, &both)[0], "--with-key=host+tpm2 --tpm2-pcrs=");
    }

    #[test]
    fn a_user_seals_from_256_on() {
        let user = Scope::User { uid: 1000 };
        assert!(shown(255, user, &SealWish::default()).is_empty());
        assert_eq!(shown(256, user, &SealWish::default()), ["--with-key=auto"]);
    }

    #[test]
    fn display_names_the_binding() {
        let wish = SealWish::default();
        let all = candidates(257, Scope::System, &wish);
        assert_eq!(all[0].to_string(), "to this host's TPM (no PCRs)");
        assert_eq!(SealFlags::with(SealMode::Host).to_string(), "to this host's own key");
    }
}
