//! What the TPM of this host can do, as systemd reports it (`systemd-analyze has-tpm2`, before systemd 257
//! `systemd-creds has-tpm2`).

/// The words of systemd's report that psi's messages explain, with what each is.
const PARTS: [(&str, &str); 5] = [
    ("firmware", "the firmware offers no TPM"),
    ("driver", "the kernel has no TPM device"),
    ("system", "systemd is built without TPM support"),
    ("subsystem", "the kernel has no TPM subsystem"),
    ("libraries", "the TPM's libraries are not installed"),
];
/// Messages for a lockout, of systemd 252, of 257, and as errno (ENOLCK).
const LOCKED: [&str; 3] = ["attack lockout mode", "attack lock-out mode", "No locks available"];
/// What remains where no TPM can be used.
const WITHOUT_TPM: &str = "without a TPM, `--seal-with host` seals to the key in /var/lib/systemd/credential.secret \
     on the same disk, which protects a copied file and not a stolen disk, and a PKCS#11 token holds the cache key \
     itself (`--backend hsm`)";

/// systemd's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum TpmSupport {
    /// Everything that sealing takes.
    Full,
    /// Something is missing: systemd's words for it.
    Lacks(Vec<String>),
    /// systemd gave no report.
    Unknown,
}

impl TpmSupport {
    /// Parses the report: `yes`, `no` or `partial`, then `+PART` or `-PART` on each line.
    pub(super) fn parse(report: &str) -> Self {
        let mut lines = report.lines().map(str::trim);
        match lines.next() {
            Some("yes") => Self::Full,
            Some("no" | "partial") => {
                let known = |part: &&str| PARTS.iter().any(|(name, _)| name == part);
                let missing = lines.filter_map(|line| line.strip_prefix('-')).filter(known);
                Self::Lacks(missing.map(str::to_owned).collect())
            }
            _ => Self::Unknown,
        }
    }

    /// What is missing, in words.
    pub(in crate::ctl) fn missing(&self) -> Option<String> {
        let Self::Lacks(missing) = self else { return None };
        let lacks = |name: &str| missing.iter().any(|part| part == name);
        let parts = PARTS.iter().filter(|(name, _)| lacks(name)).map(|(_, what)| *what);
        let parts: Vec<&str> = parts.collect();
        Some(if parts.is_empty() { "systemd finds no TPM".into() } else { parts.join(", ") })
    }

    /// What follows a message of systemd-creds.
    pub(super) fn suffix(&self) -> String {
        self.missing().map_or_else(String::new, |missing| format!(" ({missing})"))
    }

    /// What helps after `why`, the message of systemd-creds. A passing condition is waited for.
    pub(super) fn remedy(&self, why: &str) -> String {
        if LOCKED.iter().any(|words| why.contains(words)) {
            return "the TPM is locked after failed authorizations: wait until it unlocks itself, or clear that with \
                    `tpm2_dictionarylockout --clear-lockout`, then run it again"
                .into();
        }
        let Self::Lacks(missing) = self else {
            return format!(
                "run it again; if it keeps failing, see `systemd-analyze has-tpm2`; {WITHOUT_TPM}"
            );
        };
        let lacks = |name: &str| missing.iter().any(|part| part == name);
        if lacks("libraries") && !lacks("driver") {
            return "install the TPM's libraries (Debian: libtss2-esys-3.0.2-0t64, libtss2-rc0t64, libtss2-mu; \
                    Fedora: tpm2-tss), then run it again"
                .into();
        }
        format!("switch the TPM on in the firmware; {WITHOUT_TPM}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_the_reports_of_every_version() {
        assert_eq!(
            TpmSupport::parse("yes\n+firmware\n+driver\n+system\n+subsystem\n"),
            TpmSupport::Full
        );
        let of_252 = TpmSupport::parse("partial\n-firmware\n-driver\n+system\n-subsystem\n");
        assert_eq!(
            of_252,
            TpmSupport::Lacks(["firmware", "driver", "subsystem"].map(String::from).into())
        );
        let of_257 =
            "partial\n+firmware\n+driver\n+system\n+subsystem\n-libraries\n  -libtss2-esys.so.0\n";
        assert_eq!(TpmSupport::parse(of_257), TpmSupport::Lacks(vec!["libraries".into()]));
        for odd in ["", "Unknown command verb has-tpm2.\n", "\x1b[2J"] {
            assert_eq!(TpmSupport::parse(odd), TpmSupport::Unknown);
        }
    }

    #[test]
    fn partial_support_is_named_with_its_remedy() {
        let lacks =
            |parts: &[&str]| TpmSupport::Lacks(parts.iter().map(ToString::to_string).collect());
        let none = lacks(&["firmware", "driver"]);
        assert_eq!(none.suffix(), " (the firmware offers no TPM, the kernel has no TPM device)");
        assert!(none.remedy("x").starts_with("switch the TPM on in the firmware; without a TPM"));
        assert!(lacks(&["libraries"]).remedy("x").contains("install the TPM's libraries"));
        assert_eq!(
            (TpmSupport::Full.missing(), TpmSupport::Unknown.suffix()),
            (None, String::new())
        );
    }

    #[test]
    fn a_lockout_is_waited_for() {
        for why in ["TPM2 device is in dictionary attack lockout mode.", "x: No locks available"] {
            let remedy = TpmSupport::Lacks(vec!["firmware".into()]).remedy(why);
            assert!(remedy.contains("wait") && !remedy.contains("--seal-with"), "{remedy}");
        }
    }
}
