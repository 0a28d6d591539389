//! The commands of the cache and of the token.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use psi_common::SealMode;

/// The commands of the cache.
#[derive(Subcommand)]
pub(crate) enum CacheCommand {
    /// Create a key, seal it, check that it opens, and write an empty cache
    Init(InitOptions),
    /// Print the state of the cache and of each provider, and whether a reboot in an outage would lose secrets
    Status {
        /// Also read cache.enc and compare it with the daemon's values
        #[arg(long)]
        verify: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Pull every configured source now
    Refresh {
        /// Accept removals and emptied values without waiting for confirmation
        #[arg(long)]
        accept_removals: bool,
        /// Retry a refused login once now; too many refused logins lock the identity for every host
        #[arg(long)]
        retry: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove one entry, so that the next lookup fetches it
    Invalidate {
        /// A podman secret's name or id, WORKLOAD--KEY, or a reference {"provider":…}
        target: String,
    },
    /// Create a new data key and encrypt everything with it; it may be interrupted
    Rekey(SealArgs),
    /// Recover the data key with the recovery key on stdin, for example after a change of board or firmware
    Recover(SealArgs),
    /// Create a new recovery key, which replaces any other one, and print it
    RecoveryKey,
}

/// How a key is sealed. Without either, it is sealed as the present one.
#[derive(Args)]
pub(crate) struct SealArgs {
    /// What systemd-creds seals the key to
    #[arg(long, value_name = "KEY", value_parser = seal_mode())]
    pub(crate) seal_with: Option<SealMode>,
    /// The PCRs that the key is bound to, such as 7 or 7+11; empty for none
    #[arg(long, value_name = "PCRS")]
    pub(crate) tpm2_pcrs: Option<String>,
}

/// The commands of the token.
#[derive(Subcommand)]
pub(crate) enum HsmCommand {
    /// Check step by step what psid needs of the token; psid need not run
    ///
    /// The PIN is tried at most once: not if any process of psi had it refused before, and not if the token reports that
    /// only the last try is left. The steps are config, module, socket, token, PIN, key, mechanisms and a round trip: the
    /// token unwraps a key that was wrapped here, and a signature of the token is verified here.
    Preflight {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Try the PIN once even if it was refused
        #[arg(long)]
        retry: bool,
    },
    /// Print the state of the token and its key
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Encrypt stdin to the token's key, and print the podman command that creates the secret
    ///
    /// The secret is encrypted to the token's public key and decrypted once to check that the token can. psid keeps
    /// nothing: the printed command contains the encrypted secret, and `psictl hsm store NAME <file | sh` runs it at once.
    /// The token must be present at the first lookup of the secret after a start.
    Store {
        /// The podman secret's name
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct InitOptions {
    /// The key backend: tpm (sealed by systemd-creds) or hsm (wrapped by a PKCS#11 token) (default: backend of the
    /// config)
    #[arg(long)]
    pub(crate) backend: Option<Backend>,
    /// What systemd-creds seals the key to; a different seal_with of the config is changed (default: as the config
    /// requires)
    #[arg(long, value_name = "KEY", value_parser = seal_mode())]
    pub(crate) seal_with: Option<SealMode>,
    /// The PCRs that the key is bound to, such as 7 or 7+11; empty for none
    #[arg(long, value_name = "PCRS", default_value = "7")]
    pub(crate) tpm2_pcrs: String,
    /// Replace a readable cache or a key in use; values that only they have are lost
    #[arg(long)]
    pub(crate) force: bool,
    /// Create no recovery key
    #[arg(long)]
    pub(crate) no_recovery_key: bool,
    /// Try the token's PIN once even if it was refused
    #[arg(long)]
    pub(crate) retry: bool,
}

/// The key backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Tpm,
    Hsm,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Hsm => "hsm",
        }
    }
}

/// Parses a [`SealMode`]; its names are the possible values in the help.
fn seal_mode() -> impl TypedValueParser<Value = SealMode> {
    PossibleValuesParser::new(SealMode::NAMES).try_map(|name| name.parse::<SealMode>())
}
