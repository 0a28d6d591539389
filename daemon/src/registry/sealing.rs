//! Files of registrations, and the keys that literals are encrypted with.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use psi_common::SecretId;

use super::{Keys, OwnedRegistration, Registered, Registration, Registry, RegistryError, blocking};
use crate::crypto::envelope::{self, AadContext, EnvelopeError, WrappedKeyHeader};
use crate::crypto::keyring::Keyring;
use crate::model::principal::Owner;
use crate::model::reference::Reference;
use crate::registry::reference_file::{self, ReferenceFile, ReferenceFileError};
use crate::sys::files;

/// The wrapped key headers of encrypted files.
#[derive(Default)]
pub struct SealedUnder {
    /// Each once.
    pub headers: Vec<WrappedKeyHeader>,
    /// A file or directory that could not be read and may carry another one: why, and what to do.
    pub unread: Option<String>,
}

impl Registry {
    /// The key, if it is unlocked.
    fn keyring(&self) -> Option<Arc<Keyring>> {
        match &*self.keys.read() {
            Keys::None | Keys::Closed => None,
            Keys::Open(keyring) => Some(Arc::clone(keyring)),
        }
    }

    /// The file for a registration.
    pub(super) fn sealed(
        &self,
        id: SecretId,
        owner: Owner,
        what: &Registration,
    ) -> Result<Vec<u8>, RegistryError> {
        match (what, &*self.keys.read()) {
            (Registration::Reference(_, raw), _) => {
                Ok(reference_file::encode(id.as_str(), owner, raw.expose_secret()))
            }
            (Registration::Literal(_), Keys::None) => Err(RegistryError::NoBackend),
            (Registration::Literal(_), Keys::Closed) => Err(RegistryError::NoKey),
            (Registration::Literal(value), Keys::Open(keyring)) => {
                Ok(keyring.seal(AadContext::literal(id.as_str(), owner), value)?)
            }
        }
    }

    /// Reads and decrypts the file of `id`. The owner is none where it is not known.
    pub(super) fn read(&self, id: SecretId, path: &Path) -> OwnedRegistration {
        let file = match fs::read(path) {
            Ok(file) => file,
            Err(error) => {
                let what = match error.kind() {
                    ErrorKind::NotFound => {
                        let why = format!("{} is gone; {FROM_A_BACKUP}", path.display());
                        Registered::Invalid(why.into())
                    }
                    _ => Registered::Unreadable(files::problem(path, &error).to_string().into()),
                };
                return OwnedRegistration { what, owner: None, bytes: 0 };
            }
        };
        let (owner, read) = match envelope::is_literal(&file) {
            true => {
                let content = AadContext::of_literal(id.as_str(), &file);
                (content.owner(), self.read_literal(content, &file))
            }
            false => match read_reference(id, &file) {
                Ok((owner, read, bytes)) => (owner, Ok((read, bytes))),
                Err(why) => (None, Err(why)),
            },
        };
        let (what, bytes) = read.unwrap_or_else(|why| {
            let (what, remedy) = (why.message(), why.remedy());
            (Registered::Invalid(format!("{} {what}; {remedy}", path.display()).into()), file.len())
        });
        OwnedRegistration { what, owner, bytes }
    }

    fn read_literal(
        &self,
        content: AadContext<'_>,
        file: &[u8],
    ) -> Result<(Registered, usize), InvalidReason> {
        let keyring = self.keyring().ok_or(InvalidReason::Closed)?;
        let value = keyring.open(content, file).map_err(InvalidReason::Literal)?;
        let bytes = value.len();
        Ok((Registered::Literal(Arc::new(value)), bytes))
    }

    /// The text of a registered reference, as podman passed it.
    pub(super) fn text_of(&self, id: SecretId, path: &Path) -> Option<Vec<u8>> {
        let file = fs::read(path).ok()?;
        Some(ReferenceFile::parse(id.as_str(), &file).ok()?.text.to_vec())
    }

    /// Encrypts again the literals of a former key; returns how many.
    pub async fn reseal(self: &Arc<Self>) -> Result<u64, RegistryError> {
        let registry = Arc::clone(self);
        blocking(None, move || registry.reseal_blocking()).await
    }

    fn reseal_blocking(&self) -> Result<u64, RegistryError> {
        let _writing = self.writing.lock();
        self.check_readable()?;
        let keyring = self.keyring().ok_or(RegistryError::NoKey)?;
        let mut count = 0;
        for (id, path) in self.paths()? {
            let file = fs::read(&path)?;
            let content = AadContext::of_literal(id.as_str(), &file);
            if !envelope::is_literal(&file) || keyring.is_present(content, &file) {
                continue;
            }
            // A file that this keyring does not decrypt stays as it is.
            let Ok(value) = keyring.open(content, &file) else { continue };
            // A deletion's time is the file's.
            let time = fs::metadata(&path)?.modified()?;
            files::replace_with_mtime(&path, &keyring.seal(content, &value)?, time)?;
            count += 1;
        }
        Ok(count)
    }

    /// The wrapped-key headers of the sealed files.
    pub fn sealed_under(&self) -> SealedUnder {
        let mut found = SealedUnder::default();
        let paths = self.paths().unwrap_or_else(|error| {
            found.unread = Some(files::problem(&self.directory, &error).to_string());
            Vec::new()
        });
        for (_, path) in paths {
            match fs::read(&path) {
                Ok(file) => {
                    let header = envelope::wrapped_key_header(&file);
                    found.headers.extend(header.filter(|new| !found.headers.contains(new)));
                }
                Err(error) => found.unread = Some(files::problem(&path, &error).to_string()),
            }
        }
        found
    }

    /// Every file of a registered and of a deleted secret.
    fn paths(&self) -> io::Result<Vec<(SecretId, PathBuf)>> {
        let registered = files::list_ids(&self.directory)?.into_iter();
        let registered = registered.map(|id| (id, self.directory.join(id.as_str())));
        let deleted = self.trash.ids()?.into_iter().map(|id| (id, self.trash.path(id)));
        Ok(registered.chain(deleted).collect())
    }
}

fn read_reference(id: SecretId, file: &[u8]) -> Result<(Owner, Registered, usize), InvalidReason> {
    let found = ReferenceFile::parse(id.as_str(), file).map_err(InvalidReason::Reference)?;
    let reference = Reference::parse(found.text);
    let reference = reference.ok_or(InvalidReason::Reference(ReferenceFileError::Foreign))?;
    Ok((found.owner, Registered::reference(reference), found.text.len()))
}

const FROM_A_BACKUP: &str = "put it back from a backup, or create the secret again";

/// Why a file is invalid.
enum InvalidReason {
    /// A literal, and no key.
    Closed,
    /// A literal that does not open.
    Literal(EnvelopeError),
    /// A reference that is not good.
    Reference(ReferenceFileError),
}

impl InvalidReason {
    /// What follows the path.
    fn message(&self) -> String {
        match self {
            Self::Closed => "is a sealed literal, and there is no key to open it".into(),
            Self::Literal(why) => format!("does not open: {why}"),
            Self::Reference(why) => format!("is not usable: {why}"),
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Closed => "see `psictl cache status`",
            Self::Literal(EnvelopeError::OtherKey | EnvelopeError::OtherBackend(_)) => {
                "bring that key back with `psictl cache recover`, or create the secret again"
            }
            Self::Literal(_) | Self::Reference(_) => FROM_A_BACKUP,
        }
    }
}
