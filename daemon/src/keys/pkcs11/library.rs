//! The PKCS#11 module: loading, initialisation and its tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;
use cryptoki::slot::{Slot, TokenInfo};

use super::TokenChoice;
use super::call_monitor::CallMonitor;
use super::error::{TokenError, cause, return_value};

/// A module that is loaded and initialised. It is finalised on drop.
pub(super) struct Library {
    pkcs11: Pkcs11,
    monitor: Arc<CallMonitor>,
}

/// A loaded module. It is never unloaded: its threads and at-exit hooks would crash.
pub(super) struct LoadedModule {
    path: PathBuf,
    pkcs11: Pkcs11,
}

impl LoadedModule {
    pub(super) fn load(path: &Path, monitor: &CallMonitor) -> Result<Self, TokenError> {
        let loaded = monitor.watch("dlopen", || Pkcs11::new(path)).map_err(|error| {
            TokenError::absent(
                format!("the PKCS#11 module {} cannot be loaded: {}", path.display(), cause(&error)),
                "install it (Debian: opensc-pkcs11), or correct pkcs11_module in [providers.pkcs11]",
            )
        })?;
        std::mem::forget(loaded.clone());
        Ok(Self { path: path.to_owned(), pkcs11: loaded })
    }

    pub(super) fn is_of(&self, path: &Path) -> bool {
        self.path == path
    }

    /// Initialises the module, which then looks for readers.
    pub(super) fn initialize(&self, monitor: &Arc<CallMonitor>) -> Result<Library, TokenError> {
        let args = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match monitor.watch("C_Initialize", || self.pkcs11.initialize(args)) {
            Ok(()) => {}
            // Other code of this process initialised it; a conflict shows in each call.
            Err(error) if return_value(&error) == Some(RvError::CryptokiAlreadyInitialized) => {}
            Err(error) => return Err(TokenError::of_call("C_Initialize", &error)),
        }
        Ok(Library { pkcs11: self.pkcs11.clone(), monitor: Arc::clone(monitor) })
    }
}

impl Library {
    pub(super) fn pkcs11(&self) -> &Pkcs11 {
        &self.pkcs11
    }

    /// The manufacturer, description and version of the module.
    pub(super) fn describe(&self) -> Result<String, TokenError> {
        let info = self.monitor.watch("C_GetInfo", || self.pkcs11.get_library_info());
        let info = info.map_err(|error| TokenError::of_call("C_GetInfo", &error))?;
        let version = info.library_version();
        let (maker, what) = (info.manufacturer_id(), info.library_description());
        Ok(format!("{maker}, {what} {}.{}", version.major(), version.minor()))
    }

    /// The slot of the configured token.
    pub(super) fn find(&self, choice: &TokenChoice) -> Result<Slot, TokenError> {
        match choice {
            TokenChoice::Slot(id) => self.in_slot(*id),
            TokenChoice::Label(label) => self.labelled(label),
        }
    }

    fn in_slot(&self, id: u64) -> Result<Slot, TokenError> {
        let slot = Slot::try_from(id).map_err(|error| TokenError::of_call("slot", &error))?;
        match self.token_in(slot) {
            Ok(info) if info.token_initialized() => Ok(slot),
            Ok(_) => Err(TokenError::refused(
                format!("the token in slot {id} is not initialised"),
                "initialise it, or name another slot in [providers.pkcs11]",
            )),
            Err(_) => Err(self.no_token(&format!("no token is in slot {id}"))),
        }
    }

    fn labelled(&self, label: &str) -> Result<Slot, TokenError> {
        let slots = self.slots()?.into_iter();
        let mut matching =
            slots.filter(|slot| self.token_in(*slot).is_ok_and(|info| label_of(&info) == label));
        match (matching.next(), matching.next()) {
            (Some(slot), None) => Ok(slot),
            (Some(_), Some(_)) => Err(TokenError::refused(
                format!("more than one token has the label '{label}'"),
                "name its slot instead, `slot = …` in [providers.pkcs11]; `pkcs11-tool -L` lists them",
            )),
            (None, _) => Err(self.no_token(&format!("no token has the label '{label}'"))),
        }
    }

    /// The error for a missing token, which names the tokens that exist.
    fn no_token(&self, what: &str) -> TokenError {
        let describe = |slot: Slot| {
            let info = self.token_in(slot).ok()?;
            Some(format!("'{}' in slot {slot}", label_of(&info)))
        };
        let others: Vec<String> =
            self.slots().unwrap_or_default().into_iter().filter_map(describe).collect();
        let others = match others.as_slice() {
            [] => "there is no token".to_owned(),
            others => format!("there is {}", others.join(", ")),
        };
        TokenError::absent(
            format!("{what}: {others}"),
            "plug the token in and check pcscd, or correct [providers.pkcs11]; psid looks for it at the next call",
        )
    }

    fn slots(&self) -> Result<Vec<Slot>, TokenError> {
        let slots = self.monitor.watch("C_GetSlotList", || self.pkcs11.get_slots_with_token());
        slots.map_err(|error| TokenError::of_call("C_GetSlotList", &error))
    }

    fn token_in(&self, slot: Slot) -> cryptoki::error::Result<TokenInfo> {
        self.monitor.watch("C_GetTokenInfo", || self.pkcs11.get_token_info(slot))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let pkcs11 = self.pkcs11.clone();
        // A module that fails here has failed before, and that was reported.
        let _ = self.monitor.watch("C_Finalize", || pkcs11.finalize());
    }
}

/// Some modules pad with NUL instead of spaces.
pub(super) fn label_of(info: &TokenInfo) -> &str {
    info.label().trim_end_matches(['\0', ' '])
}
