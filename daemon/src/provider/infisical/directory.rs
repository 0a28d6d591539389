//! One directory, or one and those below it, as the fewest requests show it. A lookup and a refresh read it
//! by the same code, so that both find the same value.
//!
//! The server refuses a whole listing because of one secret in it: one whose reference leads to what the
//! identity may not read, or one that it may describe and not read. Then the listing is asked for without
//! the part that was refused, and the secrets that need it are got by name.

use std::collections::HashMap;
use std::sync::Arc;

use psi_common::{SecretBytes, check};

use super::client::{self, Secret, View};
use super::references::{self, Written};
use super::{Infisical, Project, normal_path};
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::ProviderError;

/// What is read of one source at most.
pub(super) const MAX_SOURCE_BYTES: usize = 64 << 20;
/// What podman takes as one secret.
const MAX_VALUE_BYTES: usize = 512_000;
/// Directories of one source at most.
pub(super) const MAX_DIRECTORIES: usize = 1_000;

const THROUGH_IMPORT: &str = "its reference leads through an import, which Infisical resolves in a listing \
     alone, and the listing is refused because of another secret's reference";

/// What a directory shows of one secret.
pub(super) enum Slot {
    /// Its value.
    Value(SecretBytes),
    /// Its value is to be got by name.
    ByName,
    /// It is not for us, and why.
    Denied(String),
    /// It has no value that can be taken, and why.
    Unread(String),
}

/// What a directory has.
pub(super) struct Contents {
    pub(super) slots: HashMap<CacheKey, Slot>,
    /// Whether anything is imported into it, or into one below it.
    pub(super) has_imports: bool,
}

/// A secret as it was listed.
struct Found {
    at: CacheKey,
    secret: Secret,
    is_imported: bool,
}

impl Infisical {
    /// Reads an extent.
    pub(super) async fn read(
        &self,
        project: &Project,
        extent: &ListingScope,
    ) -> Result<Contents, ProviderError> {
        let why = match self.listing(project, extent, View::Expanded).await {
            Err(ProviderError::Denied(why)) => why,
            listed => return whole(extent, listed?, expanded),
        };
        for (view, slots) in
            [(View::Unexpanded, unexpanded as Slots), (View::Names, names as Slots)]
        {
            match self.listing(project, extent, view).await {
                Err(ProviderError::Denied(_)) => {}
                listed => return whole(extent, listed?, slots),
            }
        }
        Err(ProviderError::Denied(why))
    }

    async fn listing(
        &self,
        project: &Project,
        extent: &ListingScope,
        view: View,
    ) -> Result<client::Listing, ProviderError> {
        let (api, folder) = (self.api()?, project.folder(&extent.path));
        let recursive = extent.recursive;
        let listed = self
            .call(project, |token| async move {
                api.secrets(token.text(), folder, recursive, view).await
            })
            .await;
        self.note_pause(&extent.realm, &listed);
        listed
    }

    /// One value by name, as it is served.
    pub(super) async fn by_name(
        &self,
        project: &Project,
        at: &CacheKey,
        view: View,
    ) -> Result<SecretBytes, ProviderError> {
        let (api, folder, key) = (self.api()?, project.folder(&at.path), &*at.key);
        let value = self
            .call(project, |token| async move { api.secret(token.text(), folder, key, view).await })
            .await?;
        match too_large(&value) {
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
        let (api, folder) = (self.api()?, project.folder(path));
        self.call(project, |token| async move { api.has_imports(token.text(), folder).await }).await
    }
}

/// Makes slots of what was listed.
type Slots = fn(Vec<Found>, bool) -> HashMap<CacheKey, Slot>;

/// What a listing has of an extent, within bounds.
fn whole(
    extent: &ListingScope,
    listing: client::Listing,
    slots: Slots,
) -> Result<Contents, ProviderError> {
    let has_imports = !listing.imports.is_empty();
    let found = in_order(extent, listing);
    let bytes: usize =
        found.iter().map(|found| found.secret.secret_value.0.expose_secret().len()).sum();
    if bytes > MAX_SOURCE_BYTES {
        return Err(too_much(extent));
    }
    Ok(Contents { slots: slots(found, has_imports), has_imports })
}

/// That a source is larger than psid holds.
pub(super) fn too_much(extent: &ListingScope) -> ProviderError {
    ProviderError::Misbehaved(format!(
        "{} has more than {} MiB of values; name a narrower path",
        check::excerpt(&extent.path),
        MAX_SOURCE_BYTES >> 20
    ))
}

/// In the order of precedence, lowest first: imports, of which the last one wins, then the folder's own.
/// What is not in the extent was not asked for.
fn in_order(extent: &ListingScope, listing: client::Listing) -> Vec<Found> {
    // Of a directory and those below it, nothing says which one imports.
    let imports = if extent.recursive { Vec::new() } else { listing.imports };
    let imported = imports.into_iter().flat_map(|import| import.secrets);
    let imported = imported.map(|secret| (None, secret, true));
    let own =
        listing.secrets.into_iter().map(|mut secret| (secret.secret_path.take(), secret, false));
    // One text for all secrets of a folder, which come one after the other.
    let mut folder: Arc<str> = extent.path.as_str().into();
    let mut placed = |(path, secret, is_imported): (Option<String>, Secret, bool)| {
        let path = path.map_or_else(|| extent.path.clone(), |path| normal_path(&path));
        if *folder != *path {
            folder = path.into();
        }
        let key = secret.secret_key.as_str();
        let at = CacheKey::new(extent.realm.clone(), Arc::clone(&folder), key);
        Found { at, secret, is_imported }
    };
    imported.chain(own).map(&mut placed).filter(|found| extent.contains(&found.at)).collect()
}

fn expanded(found: Vec<Found>, _: bool) -> HashMap<CacheKey, Slot> {
    found.into_iter().map(|Found { at, secret, .. }| (at, slot(secret))).collect()
}

/// Values with a reference are got by name, if that gives what the listing would.
fn unexpanded(found: Vec<Found>, has_imports: bool) -> HashMap<CacheKey, Slot> {
    let own = found.iter().filter(|found| !found.is_imported);
    let written = Written::of(own.map(|found| (&*found.at.path, &*found.at.key, found.text())));
    let judge = |found: &Found| {
        if !references::has_any(found.text()) {
            return None;
        }
        let own_path = (!found.is_imported).then_some(&*found.at.path);
        let is_the_same = !has_imports || written.resolves_in(own_path, found.text());
        Some(if is_the_same { Slot::ByName } else { Slot::Unread(THROUGH_IMPORT.into()) })
    };
    let judged: Vec<Option<Slot>> = found.iter().map(judge).collect();
    let slots = found.into_iter().zip(judged);
    slots.map(|(found, judged)| (found.at, judged.unwrap_or_else(|| slot(found.secret)))).collect()
}

/// Only the names are known.
fn names(found: Vec<Found>, _: bool) -> HashMap<CacheKey, Slot> {
    let by_name = |at: &CacheKey| match check::key(&at.key) {
        Err(why) => Slot::Unread(why.to_string()),
        Ok(()) => Slot::ByName,
    };
    found.into_iter().map(|Found { at, .. }| (at.clone(), by_name(&at))).collect()
}

fn slot(secret: Secret) -> Slot {
    if let Err(why) = check::key(&secret.secret_key) {
        return Slot::Unread(why.to_string());
    }
    if let Some(why) = too_large(&secret.secret_value.0) {
        return Slot::Unread(why);
    }
    match secret.value() {
        Ok(value) => Slot::Value(value),
        Err(why) => Slot::Denied(why.to_string()),
    }
}

fn too_large(value: &SecretBytes) -> Option<String> {
    let bytes = value.expose_secret().len();
    (bytes > MAX_VALUE_BYTES).then(|| {
        format!("its value has {bytes} bytes, and podman takes {MAX_VALUE_BYTES}; split it")
    })
}

impl Found {
    fn text(&self) -> &str {
        std::str::from_utf8(self.secret.secret_value.0.expose_secret()).unwrap_or_default()
    }
}
