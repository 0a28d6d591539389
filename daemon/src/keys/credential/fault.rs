//! The cause and the remedy of a credential failure, by the state of the TPM and by the message of systemd-creds.
//!
//! The remedy for a transient condition is never a new key or credential: a new key makes every literal
//! unreadable.

use super::{Creds, CredsError, CredsErrorKind, Lockout, SealOptions, TpmState};

/// The cause of a credential failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFault {
    /// What happened, with the state of the TPM.
    pub what: String,
    cause: Cause,
}

/// The cause of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// The helper could not be reached.
    NoHelper,
    /// The config of the helper forbids it.
    Forbidden,
    /// systemd-creds(1) did not complete.
    Incomplete,
    /// The file cannot be read.
    Unreadable,
    /// The state of the TPM.
    Tpm(TpmState),
    /// The credential is for another TPM, firmware state or host, or its file is damaged.
    Permanent,
    /// Unknown.
    Unknown,
}

/// Messages of systemd 252 to 257 that only another TPM, another firmware state or an undamaged file can resolve:
/// the policy digest, loading the key into the TPM, the AEAD and the embedded name; then the same as errno, if
/// systemd reports no more: EPERM, EREMOTE, EBADMSG.
const PERMANENT: [&str; 10] = [
    "policy digest does not match",
    "policy does not match",
    "integrity check failed",
    "Decryption failed",
    "too short",
    "does not match filename",
    "Unexpected tag",
    "Operation not permitted",
    "Object is remote",
    "Bad message",
];
/// Messages for a lockout, of systemd 252, of 257, and as errno (ENOLCK).
const LOCKED: [&str; 3] = ["attack lockout mode", "attack lock-out mode", "No locks available"];

/// Finds the cause of a failure; `seal` is how the credential is, or was to be, sealed.
pub(super) async fn find(
    creds: &Creds,
    seal: Option<&SealOptions>,
    error: &CredsError,
) -> CredentialFault {
    let state = if depends_on_the_tpm(seal, error) { Some(creds.tpm().await) } else { None };
    let cause = classify(state, error, creds.is_user());
    CredentialFault { what: format!("{error}{}", tpm_message(&cause)), cause }
}

impl CredentialFault {
    /// Whether waiting certainly does not help.
    pub fn is_permanent(&self) -> bool {
        self.cause == Cause::Permanent
    }

    /// Whether the credential itself may be intact.
    pub fn is_transient(&self) -> bool {
        !matches!(self.cause, Cause::Permanent | Cause::Unknown)
    }

    /// Whether there is no TPM.
    pub fn has_no_tpm(&self) -> bool {
        matches!(self.cause, Cause::Tpm(TpmState::Missing(_)))
    }

    /// The remedy: `permanent` for a permanent cause, `unknown` for an unknown one.
    pub fn remedy(&self, permanent: &str, unknown: &str) -> String {
        match &self.cause {
            Cause::Permanent => permanent.into(),
            Cause::Unknown | Cause::Tpm(TpmState::Ready(_) | TpmState::Unknown(_)) => {
                unknown.into()
            }
            cause => transient_remedy(cause),
        }
    }
}

fn depends_on_the_tpm(seal: Option<&SealOptions>, error: &CredsError) -> bool {
    seal.is_none_or(SealOptions::needs_tpm)
        && matches!(error.kind, CredsErrorKind::Failed | CredsErrorKind::Incomplete)
}

fn classify(state: Option<TpmState>, error: &CredsError, is_user: bool) -> Cause {
    let contains_any = |texts: &[&str]| texts.iter().any(|text| error.why.contains(text));
    match error.kind {
        CredsErrorKind::NoHelper => return Cause::NoHelper,
        CredsErrorKind::Forbidden => return Cause::Forbidden,
        CredsErrorKind::Unreadable => return Cause::Unreadable,
        CredsErrorKind::Failed | CredsErrorKind::Incomplete => {}
    }
    match state {
        // A service of systemd accesses the TPM for a user, who may not open the device.
        Some(TpmState::Unknown(_) | TpmState::Missing(_)) if is_user => {}
        Some(state @ (TpmState::Locked(_) | TpmState::Missing(_) | TpmState::Busy(_))) => {
            return Cause::Tpm(state);
        }
        Some(state @ (TpmState::Silent(_) | TpmState::Broken(_))) => return Cause::Tpm(state),
        Some(TpmState::Ready(_) | TpmState::Unknown(_)) | None => {}
    }
    if contains_any(&LOCKED) {
        return Cause::Tpm(TpmState::Locked(Lockout::default()));
    }
    match error.kind {
        CredsErrorKind::Incomplete => Cause::Incomplete,
        CredsErrorKind::Failed if contains_any(&PERMANENT) => Cause::Permanent,
        _ => Cause::Unknown,
    }
}

/// The state of the TPM, to be appended to the message of systemd-creds.
fn tpm_message(cause: &Cause) -> String {
    match cause {
        Cause::Tpm(TpmState::Locked(Lockout { failed, max, .. })) if *max > 0 => {
            format!(" (the TPM is locked: {failed} failed authorizations of at most {max})")
        }
        Cause::Tpm(TpmState::Locked(_)) => " (the TPM is locked)".into(),
        Cause::Tpm(TpmState::Missing(why)) => format!(" (there is no TPM: {why})"),
        Cause::Tpm(TpmState::Busy(why)) => format!(" (the TPM is busy: {why})"),
        Cause::Tpm(TpmState::Silent(why)) => format!(" (the TPM does not answer: {why})"),
        Cause::Tpm(TpmState::Broken(why)) => format!(" (the TPM does not work: {why})"),
        _ => String::new(),
    }
}

/// The remedy for a transient cause.
fn transient_remedy(cause: &Cause) -> String {
    match cause {
        Cause::NoHelper => "`systemctl start psid-creds.socket`; psid tries again by itself".into(),
        Cause::Forbidden => {
            "name it in a key of the config that ends in _credential; the config must belong to root".into()
        }
        Cause::Incomplete => "psid tries again by itself; `journalctl -u 'psid-creds@*'` has more".into(),
        Cause::Unreadable => "psid tries again by itself; check the file's owner and mode".into(),
        Cause::Tpm(TpmState::Locked(lockout)) => {
            let interval = match lockout.interval {
                0 => "within minutes or hours".into(),
                seconds => format!("one authorization each {}", interval_text(seconds)),
            };
            format!(
                "it unlocks by itself, {interval}, and psid tries again; `tpm2_dictionarylockout \
                 --clear-lockout` unlocks it now (power losses count as failed authorizations)"
            )
        }
        Cause::Tpm(TpmState::Missing(_)) => {
            "switch the TPM on in the firmware or load its driver, and psid continues by itself; on another board, \
             `psictl cache recover` restores the key with the recovery key"
                .into()
        }
        Cause::Tpm(TpmState::Busy(_)) => {
            "psid tries again by itself; `fuser /dev/tpm0 /dev/tpmrm0` shows the processes that use it".into()
        }
        Cause::Tpm(TpmState::Silent(_)) => {
            "psid tries again by itself; if it keeps failing, only a power cycle resets the TPM".into()
        }
        Cause::Tpm(TpmState::Broken(_)) => {
            "switch the host off and on, which resets the TPM; psid tries again by itself".into()
        }
        Cause::Tpm(TpmState::Ready(_) | TpmState::Unknown(_)) | Cause::Unknown | Cause::Permanent => {
            "psid tries again by itself".into()
        }
    }
}

fn interval_text(seconds: u32) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} minutes", seconds / 60),
        _ => format!("{} hours", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: TpmState = TpmState::Ready(Lockout { failed: 0, max: 32, interval: 600 });

    fn failed(why: &str) -> CredsError {
        CredsError { kind: CredsErrorKind::Failed, why: why.into() }
    }

    fn classified(state: Option<TpmState>, error: &CredsError) -> (Cause, String) {
        let cause = classify(state, error, false);
        let fault = CredentialFault { what: String::new(), cause: cause.clone() };
        (cause, fault.remedy("recover; then --force", "cache recover"))
    }

    #[test]
    fn only_a_permanent_cause_has_the_permanent_remedy() {
        for message in [
            // 252
            "Current policy digest does not match stored policy digest, cancelling TPM2 authentication attempt.",
            "Failed to load HMAC key in TPM: tpm:parameter(1):integrity check failed",
            "Decryption failed (incorrect key?): error:00000000:lib(0)::reason(0)",
            "Encrypted file too short.",
            "Embedded credential name 'a' does not match filename 'psi-cache-key', refusing.",
            // 257
            "TPM policy does not match current system state. Either system has been tampered with or policy \
             out-of-date: Operation not permitted",
            "TPM key integrity check failed. Key most likely does not belong to this TPM.",
            "Failed to unseal secret using TPM2: Object is remote",
        ] {
            for state in [Some(READY), None, Some(TpmState::Unknown("x".into()))] {
                let (cause, remedy) = classified(state, &failed(message));
                assert_eq!(cause, Cause::Permanent, "{message}");
                assert_eq!(remedy, "recover; then --force");
            }
        }
    }

    #[test]
    fn lockout_is_detected_by_the_tpm_or_by_any_message() {
        let locked = TpmState::Locked(Lockout { failed: 32, max: 32, interval: 600 });
        // By the state of the TPM, with another message.
        let (cause, remedy) =
            classified(Some(locked.clone()), &failed("Failed to unseal: State not recoverable"));
        assert_eq!(cause, Cause::Tpm(locked));
        assert!(remedy.contains("one authorization each 10 minutes"), "{remedy}");
        for message in [
            "TPM2 device is in dictionary attack lockout mode.",
            "TPM is in dictionary attack lock-out mode.",
            "Failed to unseal secret using TPM2: No locks available",
        ] {
            let (cause, remedy) = classified(None, &failed(message));
            assert!(matches!(cause, Cause::Tpm(TpmState::Locked(_))), "{message}");
            assert!(remedy.contains("by itself") && remedy.contains("--clear-lockout"), "{remedy}");
        }
    }

    #[test]
    fn transient_conditions_have_no_destructive_remedy() {
        let states = [
            TpmState::Locked(Lockout::default()),
            TpmState::Missing("/dev/tpmrm0".into()),
            TpmState::Busy("/dev/tpmrm0".into()),
            TpmState::Silent("no answer".into()),
            TpmState::Broken("it answers 0x101".into()),
        ];
        // Messages of a permanent failure, while the TPM was not able to answer.
        for message in ["Operation not permitted", "integrity check failed", "tcti:IO failure"] {
            for state in &states {
                let (_, remedy) = classified(Some(state.clone()), &failed(message));
                assert!(!remedy.contains("--force"), "{state:?}: {remedy}");
            }
        }
        for kind in [
            CredsErrorKind::Incomplete,
            CredsErrorKind::NoHelper,
            CredsErrorKind::Forbidden,
            CredsErrorKind::Unreadable,
        ] {
            let error = CredsError { kind, why: "Operation not permitted".into() };
            let (_, remedy) = classified(Some(READY), &error);
            assert!(!remedy.contains("--force"), "{kind:?}: {remedy}");
        }
        let (cause, remedy) = classified(Some(READY), &failed("something new"));
        assert_eq!(cause, Cause::Unknown);
        assert!(!remedy.contains("--force") && remedy.contains("cache recover"), "{remedy}");
    }

    #[test]
    fn inaccessible_tpm_of_a_user_is_not_reported_as_missing() {
        let denied = TpmState::Unknown("/dev/tpmrm0: Permission denied".into());
        let error = failed("Failed to unseal secret using TPM2: No locks available");
        assert!(matches!(classify(Some(denied), &error, true), Cause::Tpm(TpmState::Locked(_))));
    }
}
