//! Why a credential does not open, and what helps: by what the TPM says of itself, and by systemd-creds' own
//! words where the TPM has nothing to say.
//!
//! A condition that passes is never answered with a new key or credential: a new key closes every literal.

use super::{Creds, CredsError, CredsErrorKind, Lockout, SealOptions, TpmState};

/// Why a credential did not open or was not sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happened, with what the TPM says.
    pub what: String,
    cause: Cause,
}

/// What a failure to open says of the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// Nobody reached the helper.
    NoHelper,
    /// The helper's own config forbids it.
    Forbidden,
    /// systemd-creds(1) did not run to its end.
    NotDone,
    /// The file cannot be read.
    Unreadable,
    /// What the TPM says.
    Tpm(TpmState),
    /// The credential does not fit this TPM, this firmware or this host, or its file is damaged.
    Lost,
    /// It is not known.
    Unclear,
}

/// What systemd 252 to 257 says where only another TPM, another state of the firmware or a whole file helps:
/// the policy's digest, the load of the key into the TPM, the AEAD and the embedded name. Then the same as
/// errno, where it says no more: EPERM, EREMOTE, EBADMSG.
const LASTING: [&str; 10] = [
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
/// A lockout, by 252, by 257, and as errno (ENOLCK).
const LOCKED: [&str; 3] = ["attack lockout mode", "attack lock-out mode", "No locks available"];

/// Finds the cause of a failure; `seal` is what the credential is, or was to be, sealed to.
pub(super) async fn find(creds: &Creds, seal: Option<&SealOptions>, error: &CredsError) -> Fault {
    let state = if asks_the_tpm(seal, error) { Some(creds.tpm().await) } else { None };
    let cause = judge(state, error, creds.is_user());
    Fault { what: format!("{error}{}", in_addition(&cause)), cause }
}

impl Fault {
    /// Whether it is known that waiting does not help.
    pub fn is_lasting(&self) -> bool {
        self.cause == Cause::Lost
    }

    /// Whether it says nothing of the credential itself.
    pub fn passes(&self) -> bool {
        !matches!(self.cause, Cause::Lost | Cause::Unclear)
    }

    /// Whether there is no TPM.
    pub fn has_no_tpm(&self) -> bool {
        matches!(self.cause, Cause::Tpm(TpmState::Missing(_)))
    }

    /// What helps: `lost` where waiting does not, `unclear` where nothing is known.
    pub fn remedy(&self, lost: &str, unclear: &str) -> String {
        match &self.cause {
            Cause::Lost => lost.into(),
            Cause::Unclear | Cause::Tpm(TpmState::Ready(_) | TpmState::Unknown(_)) => {
                unclear.into()
            }
            cause => passing_remedy(cause),
        }
    }
}

fn asks_the_tpm(seal: Option<&SealOptions>, error: &CredsError) -> bool {
    seal.is_none_or(SealOptions::needs_tpm)
        && matches!(error.kind, CredsErrorKind::Failed | CredsErrorKind::NotDone)
}

fn judge(state: Option<TpmState>, error: &CredsError, is_user: bool) -> Cause {
    let says = |texts: &[&str]| texts.iter().any(|text| error.why.contains(text));
    match error.kind {
        CredsErrorKind::NoHelper => return Cause::NoHelper,
        CredsErrorKind::Forbidden => return Cause::Forbidden,
        CredsErrorKind::Unreadable => return Cause::Unreadable,
        CredsErrorKind::Failed | CredsErrorKind::NotDone => {}
    }
    match state {
        // A user's TPM is asked by a service of systemd's; the device is not a user's to open.
        Some(TpmState::Unknown(_) | TpmState::Missing(_)) if is_user => {}
        Some(state @ (TpmState::Locked(_) | TpmState::Missing(_) | TpmState::Busy(_))) => {
            return Cause::Tpm(state);
        }
        Some(state @ (TpmState::Silent(_) | TpmState::Broken(_))) => return Cause::Tpm(state),
        Some(TpmState::Ready(_) | TpmState::Unknown(_)) | None => {}
    }
    if says(&LOCKED) {
        return Cause::Tpm(TpmState::Locked(Lockout::default()));
    }
    match error.kind {
        CredsErrorKind::NotDone => Cause::NotDone,
        CredsErrorKind::Failed if says(&LASTING) => Cause::Lost,
        _ => Cause::Unclear,
    }
}

/// What the TPM says beyond systemd-creds' words.
fn in_addition(cause: &Cause) -> String {
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

/// What helps where waiting does.
fn passing_remedy(cause: &Cause) -> String {
    match cause {
        Cause::NoHelper => "`systemctl start psid-creds.socket`; psid tries again by itself".into(),
        Cause::Forbidden => {
            "name it in a key of the config that ends in _credential; the config must be root's".into()
        }
        Cause::NotDone => "psid tries again by itself; `journalctl -u 'psid-creds@*'` has more".into(),
        Cause::Unreadable => "psid tries again by itself; check the file's owner and mode".into(),
        Cause::Tpm(TpmState::Locked(lockout)) => {
            let interval = match lockout.interval {
                0 => "within minutes or hours".into(),
                seconds => format!("one authorization each {}", in_units(seconds)),
            };
            format!(
                "it unlocks by itself, {interval}, and psid tries again; `tpm2_dictionarylockout \
                 --clear-lockout` unlocks it now (losses of power count as failed authorizations)"
            )
        }
        Cause::Tpm(TpmState::Missing(_)) => {
            "switch the TPM on in the firmware or load its driver, and psid goes on by itself; on another board, \
             `psictl cache recover` brings the key back with the recovery key"
                .into()
        }
        Cause::Tpm(TpmState::Busy(_)) => {
            "psid tries again by itself; `fuser /dev/tpm0 /dev/tpmrm0` names what uses it".into()
        }
        Cause::Tpm(TpmState::Silent(_)) => {
            "psid tries again by itself; if it stays so, only a power cycle resets a TPM".into()
        }
        Cause::Tpm(TpmState::Broken(_)) => {
            "switch the host off and on, which resets the TPM; psid tries again by itself".into()
        }
        Cause::Tpm(TpmState::Ready(_) | TpmState::Unknown(_)) | Cause::Unclear | Cause::Lost => {
            "psid tries again by itself".into()
        }
    }
}

fn in_units(seconds: u32) -> String {
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

    fn told(state: Option<TpmState>, error: &CredsError) -> (Cause, String) {
        let cause = judge(state, error, false);
        let fault = Fault { what: String::new(), cause: cause.clone() };
        (cause, fault.remedy("recover; then --force", "cache recover"))
    }

    #[test]
    fn only_a_lasting_cause_has_the_lasting_remedy() {
        for words in [
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
                let (cause, remedy) = told(state, &failed(words));
                assert_eq!(cause, Cause::Lost, "{words}");
                assert_eq!(remedy, "recover; then --force");
            }
        }
    }

    #[test]
    fn lockout_is_known_from_the_tpm_or_by_either_wording() {
        let locked = TpmState::Locked(Lockout { failed: 32, max: 32, interval: 600 });
        // Whatever systemd-creds makes of it.
        let (cause, remedy) =
            told(Some(locked.clone()), &failed("Failed to unseal: State not recoverable"));
        assert_eq!(cause, Cause::Tpm(locked));
        assert!(remedy.contains("one authorization each 10 minutes"), "{remedy}");
        for words in [
            "TPM2 device is in dictionary attack lockout mode.",
            "TPM is in dictionary attack lock-out mode.",
            "Failed to unseal secret using TPM2: No locks available",
        ] {
            let (cause, remedy) = told(None, &failed(words));
            assert!(matches!(cause, Cause::Tpm(TpmState::Locked(_))), "{words}");
            assert!(remedy.contains("by itself") && remedy.contains("--clear-lockout"), "{remedy}");
        }
    }

    #[test]
    fn a_condition_that_passes_is_never_answered_destructively() {
        let states = [
            TpmState::Locked(Lockout::default()),
            TpmState::Missing("/dev/tpmrm0".into()),
            TpmState::Busy("/dev/tpmrm0".into()),
            TpmState::Silent("no answer".into()),
            TpmState::Broken("it answers 0x101".into()),
        ];
        // The words of a key that is lost: the TPM was not asked for it, or not to the end.
        for words in ["Operation not permitted", "integrity check failed", "tcti:IO failure"] {
            for state in &states {
                let (_, remedy) = told(Some(state.clone()), &failed(words));
                assert!(!remedy.contains("--force"), "{state:?}: {remedy}");
            }
        }
        for kind in [
            CredsErrorKind::NotDone,
            CredsErrorKind::NoHelper,
            CredsErrorKind::Forbidden,
            CredsErrorKind::Unreadable,
        ] {
            let error = CredsError { kind, why: "Operation not permitted".into() };
            let (_, remedy) = told(Some(READY), &error);
            assert!(!remedy.contains("--force"), "{kind:?}: {remedy}");
        }
        let (cause, remedy) = told(Some(READY), &failed("something new"));
        assert_eq!(cause, Cause::Unclear);
        assert!(!remedy.contains("--force") && remedy.contains("cache recover"), "{remedy}");
    }

    #[test]
    fn a_user_s_psid_does_not_take_a_device_it_may_not_open_for_a_missing_one() {
        let denied = TpmState::Unknown("/dev/tpmrm0: Permission denied".into());
        let error = failed("Failed to unseal secret using TPM2: No locks available");
        assert!(matches!(judge(Some(denied), &error, true), Cause::Tpm(TpmState::Locked(_))));
    }
}
