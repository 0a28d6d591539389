//! The keys that systemd-creds can seal to.

use std::fmt;
use std::str::FromStr;

/// A value of `systemd-creds --with-key=` that psi offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealMode {
    /// The TPM.
    Tpm2,
    /// The host's key in /var/lib/systemd.
    Host,
    /// Both.
    HostTpm2,
    /// The TPM and the host's key, as far as they exist; systemd-creds decides.
    Auto,
}

/// A text that is not the name of a [`SealMode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of tpm2, host, host+tpm2, auto")]
pub struct UnknownSealMode;

impl SealMode {
    const ALL: [Self; 4] = [Self::Tpm2, Self::Host, Self::HostTpm2, Self::Auto];

    /// The names, as a command line offers them.
    pub const NAMES: [&str; 4] =
        [Self::Tpm2.name(), Self::Host.name(), Self::HostTpm2.name(), Self::Auto.name()];

    /// The name, as systemd-creds accepts it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tpm2 => "tpm2",
            Self::Host => "host",
            Self::HostTpm2 => "host+tpm2",
            Self::Auto => "auto",
        }
    }
}

impl FromStr for SealMode {
    type Err = UnknownSealMode;

    fn from_str(name: &str) -> Result<Self, UnknownSealMode> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or(UnknownSealMode)
    }
}

impl fmt::Display for SealMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_their_modes_and_no_other_text_does() {
        for (mode, name) in SealMode::ALL.into_iter().zip(SealMode::NAMES) {
            assert_eq!((name.parse(), mode.to_string().as_str()), (Ok(mode), name));
        }
        for text in ["", "null", "TPM2", "tpm2-absent"] {
            assert_eq!(text.parse::<SealMode>(), Err(UnknownSealMode));
        }
    }
}
