//! Credentials as systemd keeps them: delivered to the unit, or sealed in a file that psid opens itself.
//!
//! A unit that loads a credential which does not open fails to start (243/CREDENTIALS), with or without
//! `SetCredential=`; tried on systemd 257. So psid can open one itself, and start without it.

mod child;
mod helper;

use std::io::ErrorKind;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use psi_common::SecretBytes;

pub use child::Scope;
pub use helper::serve;

/// One credential.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its name, which it is sealed with.
    pub name: String,
    /// Where systemd puts it, when it runs psid as a unit with credentials.
    pub delivered: Option<PathBuf>,
    /// The file that holds it, sealed by systemd-creds(1).
    pub sealed: PathBuf,
    /// Who runs systemd-creds(1).
    pub creds: Creds,
}

/// Who runs systemd-creds(1), which wants to be root to seal for a whole system.
#[derive(Clone, Debug)]
pub enum Creds {
    /// This process.
    Child(Scope),
    /// The helper behind this socket: psid itself is not root.
    Helper(PathBuf),
}

/// What `systemd-creds encrypt` seals to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealOptions {
    /// Its `--with-key`: tpm2, host, host+tpm2 or auto.
    pub with_key: String,
    /// Its `--tpm2-pcrs`; empty for none.
    pub tpm2_pcrs: String,
}

const SEALED_BY_HOST: [u8; 16] = 0x5a1c_6a86_df9d_4096_b1d5_a65e_0862_f19a_u128.to_be_bytes();
const SEALED_BY_TPM2: [u8; 16] = 0x0c7c_c07b_1176_4591_9c4b_0bea_08bc_20fe_u128.to_be_bytes();
const SEALED_BY_HOST_AND_TPM2: [u8; 16] =
    0x93a8_9409_4874_4490_90ca_f2fc_93ca_b553_u128.to_be_bytes();
/// A user's own (systemd 256 or newer).
const SEALED_FOR_USER_BY_HOST: [u8; 16] =
    0x55b9_ed1d_3859_4d43_a831_9d2e_bb33_2ac6_u128.to_be_bytes();
const SEALED_FOR_USER_BY_HOST_AND_TPM2: [u8; 16] =
    0xef4a_c136_79a9_480e_a7db_6889_7f9f_165d_u128.to_be_bytes();

impl Credential {
    /// The credential; `None` when it is nowhere, `Err` when it does not open.
    pub async fn read(&self) -> Result<Option<SecretBytes>, String> {
        match self.delivered()? {
            Some(secret) => Ok(Some(secret)),
            None if self.sealed.exists() => self.unseal().await.map(Some),
            None => Ok(None),
        }
    }

    fn delivered(&self) -> Result<Option<SecretBytes>, String> {
        let Some(path) = &self.delivered else { return Ok(None) };
        match std::fs::read(path) {
            // An empty one is the default that a unit sets for a credential that is not there.
            Ok(bytes) => Ok((!bytes.is_empty()).then(|| SecretBytes::new(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("reading the credential {}: {error}", path.display())),
        }
    }

    async fn unseal(&self) -> Result<SecretBytes, String> {
        let sealed = std::fs::read(&self.sealed).map(SecretBytes::new);
        let opened = match sealed {
            Ok(sealed) => self.open(&sealed).await,
            Err(error) => Err(error.to_string()),
        };
        opened.map_err(|why| format!("{} does not open: {why}", self.sealed.display()))
    }

    async fn open(&self, sealed: &SecretBytes) -> Result<SecretBytes, String> {
        match &self.creds {
            Creds::Child(scope) => child::open(*scope, &self.name, sealed).await,
            Creds::Helper(socket) => helper::open(socket, &self.name, sealed).await,
        }
    }

    /// Seals `secret` for this name and proves that it opens; the caller keeps what comes back.
    pub async fn seal(
        &self,
        secret: &SecretBytes,
        seal: &SealOptions,
    ) -> Result<SecretBytes, String> {
        match &self.creds {
            Creds::Child(scope) => child::seal(*scope, &self.name, secret, seal).await,
            Creds::Helper(socket) => helper::seal(socket, &self.name, secret, seal).await,
        }
    }
}

impl Creds {
    /// How a new key is sealed. A user's credentials cannot be sealed to the TPM alone.
    pub fn default_seal(&self) -> SealOptions {
        match self {
            Self::Child(Scope::User) => {
                SealOptions { with_key: "auto".into(), tpm2_pcrs: String::new() }
            }
            _ => SealOptions::default(),
        }
    }
}

impl Default for SealOptions {
    fn default() -> Self {
        Self { with_key: "tpm2".into(), tpm2_pcrs: "7".into() }
    }
}

impl SealOptions {
    /// How a sealed credential was sealed, by its header: base64 of `type (16) · key size · block size ·
    /// IV size · tag size (4 each, little-endian) · IV, padded to 8 · PCR mask (8)`, as in
    /// systemd's src/shared/creds-util.c. `None` for what this does not know.
    pub fn of(sealed: &[u8]) -> Option<Self> {
        let text: Vec<u8> =
            sealed.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let (kind, _) = bytes.split_first_chunk::<16>()?;
        let with_key = match *kind {
            SEALED_BY_HOST | SEALED_FOR_USER_BY_HOST => {
                return Some(Self { with_key: "host".into(), tpm2_pcrs: "".into() });
            }
            SEALED_BY_TPM2 => "tpm2",
            SEALED_BY_HOST_AND_TPM2 | SEALED_FOR_USER_BY_HOST_AND_TPM2 => "host+tpm2",
            _ => return None,
        };
        let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let iv = usize::try_from(number(24)?).ok().filter(|length| *length <= 64)?;
        let at = (32 + iv).next_multiple_of(8);
        let mask = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
        let pcrs: Vec<_> =
            (0..24).filter(|pcr| mask >> pcr & 1 == 1).map(|pcr| pcr.to_string()).collect();
        Some(Self { with_key: with_key.into(), tpm2_pcrs: pcrs.join("+") })
    }
}

/// In the words of people.
impl std::fmt::Display for SealOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.with_key.as_str(), self.tpm2_pcrs.as_str()) {
            ("host", _) => f.write_str("this host's own key"),
            (key, "") => write!(f, "{key}, without PCRs"),
            (key, pcrs) => write!(f, "{key}, PCRs {pcrs}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers that systemd 252 wrote, up to the mask.
    #[test]
    fn a_sealed_credential_tells_what_it_is_sealed_to() {
        let of = |hex: &str| {
            let bytes: Vec<u8> = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            SealOptions::of(BASE64_STANDARD.encode(bytes).as_bytes()).map(|seal| seal.to_string())
        };
        let sizes = "2000000001000000 0c00000010000000 3858dbb4f6399ddca6476b7e00000000";
        let with = |kind: &str, mask: &str| of(&format!("{kind}{sizes}{mask}").replace(' ', ""));
        let tpm2 = "0c7cc07b117645919c4b0bea08bc20fe";
        assert_eq!(with(tpm2, "8000000000000000").as_deref(), Some("tpm2, PCRs 7"));
        assert_eq!(with(tpm2, "8008000000000000").as_deref(), Some("tpm2, PCRs 7+11"));
        assert_eq!(with(tpm2, "0000000000000000").as_deref(), Some("tpm2, without PCRs"));
        let both = "93a8940948744490 90caf2fc93cab553";
        assert_eq!(with(both, "8000000000000000").as_deref(), Some("host+tpm2, PCRs 7"));
        let host = "5a1c6a86df9d4096b1d5a65e0862f19a";
        assert_eq!(with(host, "").as_deref(), Some("this host's own key"));
        let of_user = "55b9ed1d38594d43a8319d2ebb332ac6";
        assert_eq!(with(of_user, "").as_deref(), Some("this host's own key"));
        let of_user = "ef4ac13679a9480ea7db68897f9f165d";
        assert_eq!(with(of_user, "8000000000000000").as_deref(), Some("host+tpm2, PCRs 7"));
        assert_eq!(with(&"00".repeat(16), "8000000000000000"), None);
        assert_eq!(with(tpm2, "80"), None);
        assert_eq!(SealOptions::of(b"no base64!"), None);
    }
}
