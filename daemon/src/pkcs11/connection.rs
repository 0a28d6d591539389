//! The one session: opened, logged in, and made to use the key.

use std::sync::Arc;

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use psi_common::SecretBytes;

use super::board::Board;
use super::describe::{PinStanding, Unwrapping};
use super::error::{TokenError, cause, is_loss, return_value};
use super::library::Library;
use super::pin::{PinGuard, PinSource};
use super::{KeyChoice, TokenConfig};

/// A session with the token.
pub(super) struct Connection {
    pub(super) pkcs11: Pkcs11,
    pub(super) slot: Slot,
    pub(super) board: Arc<Board>,
    pub(super) choice: KeyChoice,
    /// The private key, once it was found; a handle holds as long as the session.
    pub(super) key: Option<ObjectHandle>,
    session: Session,
    login: Login,
    /// It did something that was asked of it: a failure now means that it has grown old.
    pub(super) is_proven: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    No,
    /// The token says that the user is logged in already, and it was not us: so be it, until a use of
    /// the key shows that it is not so.
    Claimed,
    Yes,
}

/// Why a job was not done.
pub(super) enum Trouble {
    /// Another session may do better.
    Lost(TokenError),
    /// Any session would do the same.
    Final(TokenError),
}

impl Trouble {
    /// Of a call that has no failures of its own.
    pub(super) fn of_call(call: &str, error: &Error) -> Self {
        let told = TokenError::of_call(call, error);
        if is_loss(error) { Self::Lost(told) } else { Self::Final(told) }
    }
}

impl Connection {
    /// Finds the token and opens a session with it.
    pub(super) fn open(
        library: &Library,
        config: &TokenConfig,
        board: &Arc<Board>,
    ) -> Result<Self, TokenError> {
        let slot = library.find(&config.token)?;
        let pkcs11 = library.pkcs11().clone();
        let session = board
            .during("C_OpenSession", || pkcs11.open_ro_session(slot))
            .map_err(|error| TokenError::of_call("C_OpenSession", &error))?;
        Ok(Self {
            pkcs11,
            slot,
            board: Arc::clone(board),
            choice: config.key.clone(),
            key: None,
            session,
            login: Login::No,
            is_proven: false,
        })
    }

    pub(super) fn is_logged_in(&self) -> bool {
        self.login != Login::No
    }

    /// Nobody but the token knows whether somebody is logged in.
    pub(super) fn is_login_claimed(&self) -> bool {
        self.login == Login::Claimed
    }

    /// Logs in, unless that could lock the token; the PIN ends here.
    pub(super) fn log_in(
        &mut self,
        pin: SecretBytes,
        source: &PinSource,
        guard: &mut PinGuard,
    ) -> Result<(), Trouble> {
        if let Some(refusal) = guard.refusal_of(&pin) {
            return Err(Trouble::Final(refusal.clone()));
        }
        if let Some(objection) = PinStanding::of(&self.token_info()?).objection() {
            return Err(Trouble::Final(objection));
        }
        let hash = guard.hash(&pin);
        let pin = RawAuthPin::new(Box::new(pin.into_exposed()));
        let login = self.during("C_Login", |session| session.login_with_raw(UserType::User, &pin));
        drop(pin);
        match login {
            Ok(()) => {
                self.login = Login::Yes;
                guard.forget();
                Ok(())
            }
            Err(error) => match return_value(&error) {
                Some(RvError::UserAlreadyLoggedIn) => {
                    self.login = Login::Claimed;
                    Ok(())
                }
                Some(
                    RvError::PinExpired
                    | RvError::PinIncorrect
                    | RvError::PinInvalid
                    | RvError::PinLenRange
                    | RvError::PinLocked,
                ) => {
                    let refusal = refusal(&error, source);
                    guard.refuse(hash, refusal.clone());
                    Err(Trouble::Final(refusal))
                }
                _ => Err(Trouble::of_call("C_Login", &error)),
            },
        }
    }

    /// RSA-OAEP with SHA-256 and MGF1-SHA-256, without a label.
    pub(super) fn unwrap_key(&mut self, wrapped: &[u8]) -> Result<SecretBytes, Trouble> {
        let key = self.private_key()?;
        let mechanism = Unwrapping::oaep_sha256();
        let opened = self.during("C_Decrypt", |session| session.decrypt(&mechanism, key, wrapped));
        opened.map(SecretBytes::new).map_err(|error| match return_value(&error) {
            Some(
                RvError::ArgumentsBad
                | RvError::KeyFunctionNotPermitted
                | RvError::KeyTypeInconsistent
                | RvError::MechanismInvalid
                | RvError::MechanismParamInvalid,
            ) => Trouble::Final(self.cannot_unwrap(key, &error)),
            Some(
                RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange,
            ) => Trouble::Final(not_for_this_key(&error)),
            // Some modules have no better word for a padding that does not fit.
            Some(RvError::DeviceError | RvError::FunctionFailed | RvError::GeneralError) => {
                Trouble::Lost(not_for_this_key(&error))
            }
            _ => Trouble::of_call("C_Decrypt", &error),
        })
    }

    /// `CKM_SHA256_RSA_PKCS`
    pub(super) fn sign(&mut self, message: &[u8]) -> Result<Vec<u8>, Trouble> {
        let key = self.private_key()?;
        let sign = |session: &Session| session.sign(&Mechanism::Sha256RsaPkcs, key, message);
        self.during("C_Sign", sign).map_err(|error| match return_value(&error) {
            Some(
                RvError::KeyFunctionNotPermitted
                | RvError::KeyTypeInconsistent
                | RvError::MechanismInvalid,
            ) => Trouble::Final(TokenError::refused(
                format!(
                    "the token's key with the {} does not sign with CKM_SHA256_RSA_PKCS: {}",
                    self.named(),
                    cause(&error)
                ),
                "make one that may sign and decrypt, with \
                 `pkcs11-tool --login --keypairgen --key-type rsa:2048 --usage-sign --usage-decrypt`",
            )),
            _ => Trouble::of_call("C_Sign", &error),
        })
    }

    fn cannot_unwrap(&self, key: ObjectHandle, error: &Error) -> TokenError {
        let can = self.unwrapping(key).map_or_else(|_| String::new(), |can| format!("; {can}"));
        TokenError::refused(
            format!(
                "the token does not undo RSA-OAEP with SHA-256 with its key with the {}: {}{can}",
                self.named(),
                cause(error),
            ),
            "use a token, or a newer module, that does, and a key that may decrypt",
        )
    }

    pub(super) fn token_info(&self) -> Result<TokenInfo, Trouble> {
        let info = self.board.during("C_GetTokenInfo", || self.pkcs11.get_token_info(self.slot));
        info.map_err(|error| Trouble::of_call("C_GetTokenInfo", &error))
    }

    pub(super) fn during<T>(&self, call: &'static str, make: impl FnOnce(&Session) -> T) -> T {
        self.board.during(call, || make(&self.session))
    }
}

fn not_for_this_key(error: &Error) -> TokenError {
    TokenError::refused(
        format!("the token does not open what it was given: {}", cause(error)),
        "it was wrapped for another key, or is damaged: check key_label, key_id and the token",
    )
}

fn refusal(error: &Error, source: &PinSource) -> TokenError {
    if return_value(error) == Some(RvError::PinLocked) {
        return PinStanding::locked();
    }
    TokenError::pin(
        format!(
            "the token refused the PIN in {source} ({}), and psid does not try it again",
            cause(error)
        ),
        "put the right one there; or, if it is right, `systemctl reload psid` to try it once more",
    )
}
