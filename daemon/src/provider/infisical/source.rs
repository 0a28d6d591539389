//! Lists a source: by one request if that is enough, otherwise by one for each directory. A listing that a
//! rate limit cuts short is continued by the next one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::client::View;
use super::directory::{Contents, MAX_DIRECTORIES, MAX_SOURCE_BYTES, Slot, too_much};
use super::{Infisical, Project};
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::{Listed, ProviderError};

/// How long the remainder of a source is kept. After that, the whole source is listed again.
const REMAINDER_TTL: Duration = Duration::from_secs(900);
/// The number of timeouts that ends a listing.
const MAX_TIMEOUTS: usize = 2;

/// The remainders of incomplete listings.
#[derive(Default)]
pub(super) struct Remainders(Mutex<HashMap<ListingScope, (Instant, Remainder)>>);

/// The part of a source that is not listed yet.
#[derive(Default)]
struct Remainder {
    /// Directories to list.
    directories: VecDeque<String>,
    /// Secrets to read by name.
    keys: VecDeque<CacheKey>,
}

/// One listing of a source.
struct SourceListing<'a> {
    provider: &'a Infisical,
    project: &'a Project,
    source: ListingScope,
    listed: Listed,
    remainder: Remainder,
    bytes: usize,
    timeouts: usize,
}

impl Infisical {
    /// Lists a source, or the remainder of it. `registered` are the directories in which something is registered.
    pub(super) async fn list_source(
        &self,
        project: &Project,
        source: ListingScope,
        registered: &BTreeSet<String>,
    ) -> Result<Listed, ProviderError> {
        let listed = Listed::default();
        let mut listing = SourceListing {
            provider: self,
            project,
            source,
            listed,
            remainder: Remainder::default(),
            bytes: 0,
            timeouts: 0,
        };
        match self.remainders.take(&listing.source) {
            Some(remainder) => {
                listing.listed.continued = true;
                listing.remainder = remainder;
            }
            None => listing.begin(registered).await?,
        }
        listing.read_remainder().await?;
        Ok(listing.finish())
    }
}

impl SourceListing<'_> {
    /// Lists the source by one request; what that does not show is left for [`Self::read_remainder`].
    async fn begin(&mut self, registered: &BTreeSet<String>) -> Result<(), ProviderError> {
        let contents = self.provider.read(self.project, &self.source).await?;
        if !self.source.recursive {
            return self.add(self.source.clone(), contents.slots);
        }
        let has_imports = contents.has_imports;
        let mut directories: BTreeMap<String, HashMap<CacheKey, Slot>> = BTreeMap::new();
        for (key, slot) in contents.slots {
            directories.entry(key.path.to_string()).or_default().insert(key, slot);
        }
        if directories.len() > MAX_DIRECTORIES {
            return Err(ProviderError::Misbehaved(format!(
                "it has {} directories, more than {MAX_DIRECTORIES}; name a narrower path",
                directories.len()
            )));
        }
        if !has_imports {
            let slots = directories.into_values().flatten().collect();
            return self.add(self.source.clone(), slots);
        }
        for path in registered.iter().chain([&self.source.path]) {
            directories.entry(path.clone()).or_default();
        }
        self.begin_with_imports(directories).await
    }

    /// Keeps the directories without imports as listed, and leaves those with imports for [`Self::read_remainder`]: a
    /// recursive listing does not say which directory has an import.
    async fn begin_with_imports(
        &mut self,
        directories: BTreeMap<String, HashMap<CacheKey, Slot>>,
    ) -> Result<(), ProviderError> {
        // Reading imports needs a permission of its own, and has a rate limit of its own.
        let mut may_read_imports = true;
        for (path, slots) in directories {
            let has_imports = match may_read_imports {
                true => self.provider.has_imports(self.project, &path).await,
                false => Ok(true),
            };
            match has_imports {
                Ok(false) => self.add(self.directory(&path), slots)?,
                Ok(true) => self.remainder.directories.push_back(path),
                Err(error) => {
                    may_read_imports = matches!(error, ProviderError::NotFound(_));
                    self.remainder.directories.push_back(path);
                }
            }
        }
        Ok(())
    }

    /// Lists the remainder, until an error that concerns the next requests too.
    async fn read_remainder(&mut self) -> Result<(), ProviderError> {
        while let Some(path) = self.remainder.directories.pop_front() {
            let scope = self.directory(&path);
            let read = self.provider.read(self.project, &scope).await;
            match read {
                Ok(Contents { slots, .. }) => self.add(scope, slots)?,
                Err(error) if self.ends_listing(&error) => {
                    self.remainder.directories.push_front(path);
                    self.listed.incomplete = Some(error);
                    break;
                }
                // One missing, refused or broken directory does not concern the others.
                Err(error) => self.listed.refused.push((scope, error)),
            }
        }
        while self.listed.incomplete.is_none()
            && let Some(key) = self.remainder.keys.pop_front()
        {
            self.read_key(key).await?;
        }
        Ok(())
    }

    async fn read_key(&mut self, key: CacheKey) -> Result<(), ProviderError> {
        match self.provider.by_name(self.project, &key, View::Expanded).await {
            Ok(value) => {
                self.bytes += value.expose_secret().len();
                self.listed.listing.found.push((key, value));
                return self.within_bounds();
            }
            Err(ProviderError::Denied(why)) => self.listed.listing.denied.push((key, why)),
            Err(error) if self.ends_listing(&error) => {
                self.remainder.keys.push_front(key);
                self.listed.incomplete = Some(error);
            }
            Err(error) => self.listed.listing.unread.push((key, error.to_string())),
        }
        Ok(())
    }

    /// Adds the contents of a scope.
    fn add(
        &mut self,
        scope: ListingScope,
        slots: HashMap<CacheKey, Slot>,
    ) -> Result<(), ProviderError> {
        let listing = &mut self.listed.listing;
        listing.scopes.push(scope);
        for (key, slot) in slots {
            match slot {
                Slot::Value(value) => {
                    self.bytes += value.expose_secret().len();
                    listing.found.push((key, value));
                }
                Slot::ByName => self.remainder.keys.push_back(key),
                Slot::Denied(why) => listing.denied.push((key, why)),
                Slot::Unread(why) => listing.unread.push((key, why)),
            }
        }
        self.within_bounds()
    }

    fn within_bounds(&self) -> Result<(), ProviderError> {
        if self.bytes > MAX_SOURCE_BYTES { Err(too_much(&self.source)) } else { Ok(()) }
    }

    /// Whether an error would end the next request too.
    fn ends_listing(&mut self, error: &ProviderError) -> bool {
        self.timeouts += usize::from(matches!(error, ProviderError::TimedOut(_)));
        error.is_host_wide()
            || self.timeouts >= MAX_TIMEOUTS
            || matches!(
                error,
                ProviderError::Throttled { .. } | ProviderError::Unauthenticated { .. }
            )
    }

    fn directory(&self, path: &str) -> ListingScope {
        ListingScope { path: path.to_owned(), recursive: false, ..self.source.clone() }
    }

    /// The result; keeps the remainder for the next listing.
    fn finish(mut self) -> Listed {
        if self.listed.incomplete.is_some() {
            let later = self
                .remainder
                .keys
                .iter()
                .map(|key| (key.clone(), "it is read by the next refresh".to_owned()));
            self.listed.listing.unread.extend(later);
            self.provider.remainders.keep(self.source, self.remainder);
        }
        self.listed
    }
}

impl Remainders {
    /// Takes the remainder of a source.
    fn take(&self, source: &ListingScope) -> Option<Remainder> {
        let (since, remainder) = self.0.lock().remove(source)?;
        (since.elapsed() < REMAINDER_TTL).then_some(remainder)
    }

    fn keep(&self, source: ListingScope, remainder: Remainder) {
        let mut remainders = self.0.lock();
        remainders.retain(|_, (since, _)| since.elapsed() < REMAINDER_TTL);
        remainders.insert(source, (Instant::now(), remainder));
    }
}
