//! Reads one directory, or one and those below it, in as few requests as possible. Lookups and refreshes use
//! the same code, so that both find the same value.
//!
//! The server refuses a whole listing if the identity may not read one secret in it, or a secret that one of the
//! references leads to. Then psid requests the listing without expanded references or without values, and reads
//! the secrets that need them by name.

use std::collections::HashMap;
use std::sync::Arc;

use psi_common::{SecretBytes, check};

use super::client::{self, Secret, View};
use super::references::{self, UnexpandedSecrets};
use super::{Infisical, Project, normal_path};
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::ProviderError;

/// The most bytes of one source's values.
pub(super) const MAX_SOURCE_BYTES: usize = 64 << 20;
/// The most bytes of one value, as podman limits it.
const MAX_VALUE_BYTES: usize = 512_000;
/// The most directories of one source.
pub(super) const MAX_DIRECTORIES: usize = 1_000;

const THROUGH_IMPORT: &str = "its reference leads through an import, which Infisical resolves only in a listing, \
     and the listing is refused because of another secret's reference";

/// One secret in a directory's contents.
pub(super) enum Slot {
    /// Its value.
    Value(SecretBytes),
    /// Its value must be read by name.
    ByName,
    /// Access is denied, for this reason.
    Denied(String),
    /// It has no usable value, for this reason.
    Unread(String),
}

/// The contents of a directory.
pub(super) struct Contents {
    pub(super) slots: HashMap<CacheKey, Slot>,
    /// Whether it, or a directory below it, has imports.
    pub(super) has_imports: bool,
}

/// A listed secret.
struct ListedSecret {
    key: CacheKey,
    secret: Secret,
    is_imported: bool,
}

impl Infisical {
    /// Reads a scope.
    pub(super) async fn read(
        &self,
        project: &Project,
        scope: &ListingScope,
    ) -> Result<Contents, ProviderError> {
        let why = match self.listing(project, scope, View::Expanded).await {
            Err(ProviderError::Denied(why)) => why,
            listed => return contents(scope, listed?, expanded),
        };
        for (view, slots) in
            [(View::Unexpanded, unexpanded as Slots), (View::Names, names as Slots)]
        {
            match self.listing(project, scope, view).await {
                Err(ProviderError::Denied(_)) => {}
                listed => return contents(scope, listed?, slots),
            }
        }
        Err(ProviderError::Denied(why))
    }

    async fn listing(
        &self,
        project: &Project,
        scope: &ListingScope,
        view: View,
    ) -> Result<client::DirectoryListing, ProviderError> {
        let (api, directory) = (self.api()?, project.directory(&scope.path));
        let recursive = scope.recursive;
        let listed = self
            .call(project, |token| async move {
                api.secrets(token.text(), directory, recursive, view).await
            })
            .await;
        self.note_rate_limit(&scope.namespace, &listed);
        listed
    }

    /// Reads one value by name.
    pub(super) async fn by_name(
        &self,
        project: &Project,
        key: &CacheKey,
        view: View,
    ) -> Result<SecretBytes, ProviderError> {
        let (api, directory, name) = (self.api()?, project.directory(&key.path), &*key.key);
        let value =
            self.call(project, |token| async move {
                api.secret(token.text(), directory, name, view).await
            })
            .await?;
        match too_large(value.len()) {
            Some(why) => Err(ProviderError::Misbehaved(why)),
            None => Ok(value),
        }
    }

    /// Whether a directory imports others.
    pub(super) async fn has_imports(
        &self,
        project: &Project,
        path: &str,
    ) -> Result<bool, ProviderError> {
        let (api, directory) = (self.api()?, project.directory(path));
        self.call(project, |token| async move { api.has_imports(token.text(), directory).await })
            .await
    }
}

/// Turns listed secrets into slots.
type Slots = fn(Vec<ListedSecret>, bool) -> HashMap<CacheKey, Slot>;

/// A listing's contents of a scope, within bounds.
fn contents(
    scope: &ListingScope,
    listing: client::DirectoryListing,
    slots: Slots,
) -> Result<Contents, ProviderError> {
    let has_imports = !listing.imports.is_empty();
    let found = in_order(scope, listing);
    let bytes: usize = found.iter().map(|found| found.secret.secret_value.len()).sum();
    if bytes > MAX_SOURCE_BYTES {
        return Err(too_much(scope));
    }
    Ok(Contents { slots: slots(found, has_imports), has_imports })
}

/// The error of a source that exceeds the bound.
pub(super) fn too_much(scope: &ListingScope) -> ProviderError {
    ProviderError::Misbehaved(format!(
        "{} has more than {} MiB of values; name a narrower path",
        check::excerpt(&scope.path),
        MAX_SOURCE_BYTES >> 20
    ))
}

/// The secrets in the order of precedence, lowest first: imports, of which the last one wins, then the
/// directory's own. Secrets outside of the scope are dropped.
fn in_order(scope: &ListingScope, listing: client::DirectoryListing) -> Vec<ListedSecret> {
    // A recursive listing does not say which directory has an import.
    let imports = if scope.recursive { Vec::new() } else { listing.imports };
    let imported = imports.into_iter().flat_map(|import| import.secrets);
    let imported = imported.map(|secret| (None, secret, true));
    let own =
        listing.secrets.into_iter().map(|mut secret| (secret.secret_path.take(), secret, false));
    // Consecutive secrets of one directory share its path.
    let mut directory: Arc<str> = scope.path.as_str().into();
    let mut to_listed = |(path, secret, is_imported): (Option<String>, Secret, bool)| {
        let path = path.map_or_else(|| scope.path.clone(), |path| normal_path(&path));
        if *directory != *path {
            directory = path.into();
        }
        let name = secret.secret_key.as_str();
        let key = CacheKey::new(scope.namespace.clone(), Arc::clone(&directory), name);
        ListedSecret { key, secret, is_imported }
    };
    imported.chain(own).map(&mut to_listed).filter(|found| scope.contains(&found.key)).collect()
}

fn expanded(found: Vec<ListedSecret>, _: bool) -> HashMap<CacheKey, Slot> {
    found.into_iter().map(|ListedSecret { key, secret, .. }| (key, slot(secret))).collect()
}

/// Values with a reference are read by name, if that returns the same value as the listing.
fn unexpanded(found: Vec<ListedSecret>, has_imports: bool) -> HashMap<CacheKey, Slot> {
    let own = found.iter().filter(|found| !found.is_imported);
    let unexpanded =
        UnexpandedSecrets::new(own.map(|found| (&*found.key.path, &*found.key.key, found.text())));
    let by_name = |found: &ListedSecret| {
        if !references::has_any(found.text()) {
            return None;
        }
        let own_path = (!found.is_imported).then_some(&*found.key.path);
        let is_the_same = !has_imports || unexpanded.resolves_in(own_path, found.text());
        Some(if is_the_same { Slot::ByName } else { Slot::Unread(THROUGH_IMPORT.into()) })
    };
    let replaced: Vec<Option<Slot>> = found.iter().map(by_name).collect();
    let slots = found.into_iter().zip(replaced);
    slots
        .map(|(found, replaced)| (found.key, replaced.unwrap_or_else(|| slot(found.secret))))
        .collect()
}

/// The slots of a listing without values.
fn names(found: Vec<ListedSecret>, _: bool) -> HashMap<CacheKey, Slot> {
    let by_name = |key: &CacheKey| match check::key(&key.key) {
        Err(why) => Slot::Unread(why.to_string()),
        Ok(()) => Slot::ByName,
    };
    found.into_iter().map(|ListedSecret { key, .. }| (key.clone(), by_name(&key))).collect()
}

fn slot(secret: Secret) -> Slot {
    if let Err(why) = check::key(&secret.secret_key) {
        return Slot::Unread(why.to_string());
    }
    if let Some(why) = too_large(secret.secret_value.len()) {
        return Slot::Unread(why);
    }
    match secret.value() {
        Ok(value) => Slot::Value(value),
        Err(why) => Slot::Denied(why.to_string()),
    }
}

fn too_large(bytes: usize) -> Option<String> {
    (bytes > MAX_VALUE_BYTES).then(|| {
        format!("its value has {bytes} bytes, and podman accepts {MAX_VALUE_BYTES}; split it")
    })
}

impl ListedSecret {
    fn text(&self) -> &str {
        self.secret.secret_value.expose_secret()
    }
}
