//! How a registration lies on the disk, and under which key.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use psi_common::SecretId;

use super::{Keys, Registered, Registration, Registry, RegistryError, blocking, lock, read};
use crate::envelope::{self, BackendPart, Content, EnvelopeError, Vault};
use crate::files;
use crate::reference::Reference;
use crate::reference_file::{self, ReferenceFile, ReferenceFileError};

impl Registry {
    /// The key, when it is open.
    pub(super) fn vault(&self) -> Option<Arc<Vault>> {
        match &*read(&self.keys) {
            Keys::None | Keys::Closed => None,
            Keys::Open(vault) | Keys::First(vault) => Some(Arc::clone(vault)),
        }
    }

    /// The file for a registration.
    pub(super) fn sealed(
        &self,
        id: SecretId,
        what: &Registration,
    ) -> Result<Vec<u8>, RegistryError> {
        let keys = read(&self.keys).clone();
        Ok(match (what, keys) {
            (Registration::Reference(_, raw), Keys::None) => {
                reference_file::encode(id.as_str(), raw.expose_secret(), None)?
            }
            (_, Keys::None | Keys::Closed) => return Err(RegistryError::NoKey),
            (Registration::Reference(_, raw), Keys::Open(vault) | Keys::First(vault)) => {
                reference_file::encode(id.as_str(), raw.expose_secret(), Some(&vault))?
            }
            (Registration::Literal(value), Keys::Open(vault) | Keys::First(vault)) => {
                vault.seal(Content::Literal(id.as_str()), value)?
            }
        })
    }

    /// What the file of `id` holds, when that can be used.
    pub(super) fn read(&self, id: SecretId, path: &Path) -> Registered {
        let file = match fs::read(path) {
            Ok(file) => file,
            Err(error) => {
                let why = format!("reading {}: {error}; check the disk", path.display());
                return Registered::Unusable(why.into());
            }
        };
        let read = match envelope::is_literal(&file) {
            true => self.read_literal(id, &file),
            false => self.read_reference(id, &file),
        };
        read.unwrap_or_else(|why| {
            let remedy = why.remedy(self.folder.parent().unwrap_or(&self.folder));
            Registered::Unusable(format!("{} {}; {remedy}", path.display(), why.words()).into())
        })
    }

    fn read_literal(&self, id: SecretId, file: &[u8]) -> Result<Registered, Unusable> {
        let vault = self.vault().ok_or(Unusable::Closed)?;
        let value = vault.open(Content::Literal(id.as_str()), file).map_err(Unusable::Literal)?;
        Ok(Registered::Literal(Arc::new(value)))
    }

    fn read_reference(&self, id: SecretId, file: &[u8]) -> Result<Registered, Unusable> {
        let text = self.believed(id.as_str(), file).map_err(Unusable::Reference)?;
        let reference = Reference::parse(text);
        let reference = reference.ok_or(Unusable::Reference(ReferenceFileError::Foreign))?;
        Ok(Registered::reference(reference))
    }

    fn believed<'a>(&self, id: &str, file: &'a [u8]) -> Result<&'a [u8], ReferenceFileError> {
        let keys = read(&self.keys).clone();
        if let Keys::First(vault) = &keys
            && let Some(text) = text_from_before(id, file, vault)
        {
            return Ok(text);
        }
        let found = match ReferenceFile::parse(id, file) {
            // As the Python PSI wrote it.
            Err(ReferenceFileError::Foreign) if Reference::parse(file).is_some() => {
                return match keys {
                    Keys::None | Keys::Closed => Ok(file),
                    Keys::Open(_) | Keys::First(_) => Err(ReferenceFileError::Unsealed),
                };
            }
            found => found?,
        };
        if let Keys::Open(vault) | Keys::First(vault) = &keys {
            found.verify(vault)?;
        }
        Ok(found.text)
    }

    /// The text of a registered reference, as podman was given it.
    pub(super) fn text_of(&self, id: SecretId, path: &Path) -> Option<Vec<u8>> {
        let file = fs::read(path).ok()?;
        let text = ReferenceFile::parse(id.as_str(), &file).map(|found| found.text.to_vec());
        Some(text.unwrap_or(file))
    }

    /// How many references are from before the vault's keys.
    pub fn from_before(&self, vault: &Vault) -> usize {
        let is_from_before = |path: &PathBuf| {
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            fs::read(path).is_ok_and(|file| text_from_before(&id, &file, vault).is_some())
        };
        self.paths().into_iter().filter(is_from_before).count()
    }

    /// Takes a key over for the first time: references from before it are believed, and sealed. Tells how
    /// many that were.
    pub fn take_over_with(&self, vault: Arc<Vault>) -> Result<u64, RegistryError> {
        let _writing = lock(&self.writing);
        self.usable()?;
        let sealed = self.seal_again(|id, file| {
            let text = text_from_before(id, file, &vault);
            let seal = |text| reference_file::encode(id, text, Some(&vault));
            Ok(text.map(seal).transpose()?)
        })?;
        self.take(Keys::Open(vault));
        Ok(sealed)
    }

    /// Takes a key over, and believes references from before it though they are not sealed, until the end
    /// of the process.
    pub fn believe_for_now(&self, vault: Arc<Vault>) {
        let _writing = lock(&self.writing);
        self.take(Keys::First(vault));
    }

    /// Seals again whatever is sealed under a former key; tells how many files that were.
    pub async fn reseal(self: &Arc<Self>) -> Result<u64, RegistryError> {
        let registry = Arc::clone(self);
        blocking(move || registry.reseal_blocking()).await
    }

    fn reseal_blocking(&self) -> Result<u64, RegistryError> {
        let _writing = lock(&self.writing);
        self.usable()?;
        let vault = self.vault().ok_or(RegistryError::NoKey)?;
        // What does not open now will not open under another key; it stays for what it is.
        self.seal_again(|id, file| {
            if !envelope::is_literal(file) {
                let Ok(found) = ReferenceFile::parse(id, file) else { return Ok(None) };
                let is_former = found.verify(&vault).is_ok() && !found.is_present(&vault);
                let seal = || reference_file::encode(id, found.text, Some(&vault));
                return Ok(is_former.then(seal).transpose()?);
            }
            let content = Content::Literal(id);
            if vault.is_present(content, file) {
                return Ok(None);
            }
            let Ok(value) = vault.open(content, file) else { return Ok(None) };
            Ok(Some(vault.seal(content, &value)?))
        })
    }

    /// Replaces each file for which `seal` has another one.
    fn seal_again(
        &self,
        seal: impl Fn(&str, &[u8]) -> Result<Option<Vec<u8>>, RegistryError>,
    ) -> Result<u64, RegistryError> {
        let mut count = 0;
        for path in self.paths() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(sealed) = seal(&name, &fs::read(&path)?)? else { continue };
            // A deletion's time is the file's.
            let time = fs::metadata(&path)?.modified()?;
            files::replace_of_time(&path, &sealed, time)?;
            count += 1;
        }
        Ok(count)
    }

    /// The backend's parts that the sealed files carry, each once.
    pub fn backend_parts(&self) -> Vec<BackendPart> {
        let mut parts = Vec::new();
        for path in self.paths() {
            if let Some(part) = part_in(&path)
                && !parts.contains(&part)
            {
                parts.push(part);
            }
        }
        parts
    }

    /// Whether anything is sealed, under whatever key.
    pub fn has_sealed(&self) -> bool {
        self.paths().iter().any(|path| part_in(path).is_some())
    }

    /// Every file of a registered and of a deleted secret.
    fn paths(&self) -> Vec<PathBuf> {
        [&self.folder, &self.deleted].into_iter().flat_map(|folder| ids_in(folder)).collect()
    }
}

/// The text of a reference that was there before these keys: it has no seal, or that of another one, or is
/// as the Python PSI wrote it.
fn text_from_before<'a>(id: &str, file: &'a [u8], vault: &Vault) -> Option<&'a [u8]> {
    let found = match ReferenceFile::parse(id, file) {
        Ok(found) => found,
        Err(ReferenceFileError::Foreign) => return Reference::parse(file).map(|_| file),
        Err(_) => return None,
    };
    found.verify(vault).is_err_and(|why| why.is_from_before()).then_some(found.text)
}

fn part_in(path: &Path) -> Option<BackendPart> {
    let file = fs::read(path).ok()?;
    if envelope::is_literal(&file) {
        return envelope::backend_part(&file);
    }
    let id = path.file_name()?.to_str()?;
    ReferenceFile::parse(id, &file).ok()?.backend_part()
}

fn ids_in(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = files
        .filter(|file| file.file_name().to_str().is_some_and(|id| id.parse::<SecretId>().is_ok()))
        .map(|file| file.path())
        .collect();
    paths.sort_unstable();
    paths
}

/// Why a file is not used.
enum Unusable {
    /// A literal, and no key.
    Closed,
    /// A literal that does not open.
    Literal(EnvelopeError),
    /// A reference that is not believed.
    Reference(ReferenceFileError),
}

impl Unusable {
    /// What follows the path.
    fn words(&self) -> String {
        match self {
            Self::Closed => "is a sealed literal, and there is no key to open it".into(),
            Self::Literal(why) => format!("does not open: {why}"),
            Self::Reference(why) => format!("is not believed: {why}"),
        }
    }

    fn remedy(&self, state: &Path) -> String {
        match self {
            Self::Closed => "see `psi-driver cache status`".into(),
            Self::Reference(why) if why.is_from_before() => format!(
                "if it is yours, stop psid and run `psi-driver cache adopt {}`, which seals it",
                state.display()
            ),
            Self::Literal(EnvelopeError::OtherKey | EnvelopeError::OtherBackend(_)) => {
                "bring that key back with `psi-driver cache recover`, or create the secret again"
                    .into()
            }
            Self::Literal(_) | Self::Reference(_) => {
                "put it back from a backup, or create the secret again".into()
            }
        }
    }
}
