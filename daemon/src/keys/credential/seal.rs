//! How a credential is sealed, by the id at its start.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The options of `systemd-creds encrypt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealOptions {
    /// Its `--with-key`: tpm2, host, host+tpm2 or auto; null if the credential is not encrypted.
    pub with_key: String,
    /// Its `--tpm2-pcrs`; empty for none.
    pub tpm2_pcrs: String,
}

/// What the config requires of the seal of the key: `seal_with` in `[cache]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealWith {
    /// The TPM, alone or with the host's key.
    Tpm2,
    /// Any key.
    Host,
    /// Also no key.
    Any,
}

/// The ids in systemd's src/shared/creds-util.h, versions 250 to 257: for the system, for a user (256 or newer), and
/// with a signed PCR policy. The last one was first called "tpm2 absent".
const KINDS: [(u128, &str); 9] = [
    (0x5a1c_6a86_df9d_4096_b1d5_a65e_0862_f19a, "host"),
    (0x55b9_ed1d_3859_4d43_a831_9d2e_bb33_2ac6, "host"),
    (0x0c7c_c07b_1176_4591_9c4b_0bea_08bc_20fe, "tpm2"),
    (0xfaf7_eb93_41e3_412c_a1a4_36f9_5a29_362f, "tpm2"),
    (0x93a8_9409_4874_4490_90ca_f2fc_93ca_b553, "host+tpm2"),
    (0xef4a_c136_79a9_480e_a7db_6889_7f9f_165d, "host+tpm2"),
    (0xaf49_50a8_4913_4eb1_a738_4630_4ff3_0c05, "host+tpm2"),
    (0xadbc_4ca3_efb6_4201_ba88_1b6f_2e40_95ea, "host+tpm2"),
    (0x0584_69da_f6f5_4324_8005_49da_0f8e_a2fb, "null"),
];

impl Default for SealOptions {
    fn default() -> Self {
        Self { with_key: "tpm2".into(), tpm2_pcrs: "7".into() }
    }
}

impl SealOptions {
    /// Reads the header of a sealed credential: base64 of `type (16) · key size · block size ·
    /// IV size · tag size (4 each, little-endian) · IV, padded to 8 · PCR mask (8)`, as in
    /// systemd's src/shared/creds-util.c. `None` if it is unknown.
    pub fn of(sealed: &[u8]) -> Option<Self> {
        let text: Vec<u8> =
            sealed.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let (id, _) = bytes.split_first_chunk::<16>()?;
        let id = u128::from_be_bytes(*id);
        let (_, with_key) = KINDS.into_iter().find(|(known, _)| *known == id)?;
        if !with_key.contains("tpm2") {
            return Some(Self { with_key: with_key.into(), tpm2_pcrs: String::new() });
        }
        let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let iv = usize::try_from(number(24)?).ok().filter(|length| *length <= 64)?;
        let at = (32 + iv).next_multiple_of(8);
        let mask = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
        let pcrs: Vec<_> =
            (0..24).filter(|pcr| mask >> pcr & 1 == 1).map(|pcr| pcr.to_string()).collect();
        Some(Self { with_key: with_key.into(), tpm2_pcrs: pcrs.join("+") })
    }

    /// Whether opening requires the TPM.
    pub fn needs_tpm(&self) -> bool {
        self.with_key.contains("tpm2")
    }
}

impl fmt::Display for SealOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.with_key.as_str(), self.tpm2_pcrs.as_str()) {
            ("null", _) => f.write_str("nothing"),
            ("host", _) => f.write_str("this host's own key"),
            (key, "") => write!(f, "{key}, without PCRs"),
            (key, pcrs) => write!(f, "{key}, PCRs {pcrs}"),
        }
    }
}

impl SealWith {
    /// The value in the config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tpm2 => "tpm2",
            Self::Host => "host",
            Self::Any => "any",
        }
    }

    /// Whether a seal meets this; `None` is an unknown seal.
    pub fn accepts(self, seal: Option<&SealOptions>) -> bool {
        match (self, seal.map(|seal| seal.with_key.as_str())) {
            (Self::Any, _) => true,
            (Self::Host, with_key) => with_key.is_some_and(|with_key| with_key != "null"),
            (Self::Tpm2, with_key) => with_key.is_some_and(|with_key| with_key.contains("tpm2")),
        }
    }

    /// The strictest value that a seal meets.
    pub fn met_by(seal: &SealOptions) -> Self {
        [Self::Tpm2, Self::Host]
            .into_iter()
            .find(|with| with.accepts(Some(seal)))
            .unwrap_or(Self::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    fn of(hex: &str) -> Option<SealOptions> {
        let bytes = HEXLOWER.decode(hex.replace(' ', "").as_bytes()).unwrap();
        SealOptions::of(BASE64_STANDARD.encode(bytes).as_bytes())
    }

    const SIZES: &str = "2000000001000000 0c00000010000000 3858dbb4f6399ddca6476b7e00000000";

    /// Headers of systemd 252, up to the mask.
    #[test]
    fn seal_options_are_read_from_the_header() {
        let with = |kind: &str, mask: &str| {
            of(&format!("{kind}{SIZES}{mask}")).map(|seal| seal.to_string())
        };
        let tpm2 = "0c7cc07b117645919c4b0bea08bc20fe";
        assert_eq!(with(tpm2, "8000000000000000").as_deref(), Some("tpm2, PCRs 7"));
        assert_eq!(with(tpm2, "8008000000000000").as_deref(), Some("tpm2, PCRs 7+11"));
        assert_eq!(with(tpm2, "0000000000000000").as_deref(), Some("tpm2, without PCRs"));
        let both = "93a8940948744490 90caf2fc93cab553";
        assert_eq!(with(both, "8000000000000000").as_deref(), Some("host+tpm2, PCRs 7"));
        let host = "5a1c6a86df9d4096b1d5a65e0862f19a";
        assert_eq!(with(host, "").as_deref(), Some("this host's own key"));
        assert_eq!(with(&"00".repeat(16), "8000000000000000"), None);
        assert_eq!(with(tpm2, "80"), None);
        assert_eq!(SealOptions::of(b"no base64!"), None);
        assert_eq!(SealOptions::of(b""), None);
    }

    /// Each id of systemd 257, and the values of `seal_with` that it meets.
    #[test]
    fn seal_with_accepts_by_the_id_of_a_credential() {
        let accepted = |kind: &str| {
            let seal = of(&format!("{kind}{SIZES}8000000000000000"));
            let demands = [SealWith::Tpm2, SealWith::Host, SealWith::Any];
            demands
                .into_iter()
                .filter(|with| with.accepts(seal.as_ref()))
                .map(SealWith::name)
                .collect::<Vec<_>>()
        };
        for kind in [
            "0c7cc07b117645919c4b0bea08bc20fe",
            "faf7eb9341e3412ca1a436f95a29362f",
            "93a894094874449090caf2fc93cab553",
            "ef4ac13679a9480ea7db68897f9f165d",
            "af4950a849134eb1a73846304ff30c05",
            "adbc4ca3efb64201ba881b6f2e4095ea",
        ] {
            assert_eq!(accepted(kind), ["tpm2", "host", "any"], "{kind}");
        }
        for kind in ["5a1c6a86df9d4096b1d5a65e0862f19a", "55b9ed1d38594d43a8319d2ebb332ac6"] {
            assert_eq!(accepted(kind), ["host", "any"], "{kind}");
        }
        assert_eq!(accepted("058469daf6f54324800549da0f8ea2fb"), ["any"]);
        assert_eq!(accepted(&"ab".repeat(16)), ["any"], "an unknown id");
    }

    #[test]
    fn met_by_returns_the_strictest_value() {
        for (with_key, demand) in [
            ("tpm2", SealWith::Tpm2),
            ("host+tpm2", SealWith::Tpm2),
            ("host", SealWith::Host),
            ("null", SealWith::Any),
        ] {
            let seal = SealOptions { with_key: with_key.into(), tpm2_pcrs: String::new() };
            assert_eq!(SealWith::met_by(&seal), demand, "{with_key}");
        }
    }
}
