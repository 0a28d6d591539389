//! Listing a source: one request where that is enough, one for each directory where it is not. A source
//! that could be listed in part, for there is a rate limit, is gone on with by the next listing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::client::View;
use super::directory::{Contents, MAX_DIRECTORIES, MAX_SOURCE_BYTES, Slot, too_much};
use super::{Infisical, Project};
use crate::model::reference::{CacheKey, ListingScope};
use crate::provider::{Listed, ProviderError};

/// How long the rest of a source is remembered. After that, all of it is listed anew.
const REST_LASTS: Duration = Duration::from_secs(900);
/// Requests without an answer in time, after which the others are left for later.
const TIMEOUTS: usize = 2;

/// What is left of sources that were listed in part.
#[derive(Default)]
pub(super) struct Rests(Mutex<HashMap<ListingScope, (Instant, Rest)>>);

/// What is left of one source.
#[derive(Default)]
struct Rest {
    /// Directories that are to be listed.
    directories: VecDeque<String>,
    /// Secrets that are to be got by name.
    keys: VecDeque<CacheKey>,
}

/// One listing of a source.
struct Round<'a> {
    provider: &'a Infisical,
    project: &'a Project,
    source: ListingScope,
    listed: Listed,
    rest: Rest,
    bytes: usize,
    timeouts: usize,
}

impl Infisical {
    /// Lists a source, or the rest of it. `folders` are those of which something is registered.
    pub(super) async fn list_source(
        &self,
        project: &Project,
        source: ListingScope,
        folders: &BTreeSet<String>,
    ) -> Result<Listed, ProviderError> {
        let listed = Listed::default();
        let mut round = Round {
            provider: self,
            project,
            source,
            listed,
            rest: Rest::default(),
            bytes: 0,
            timeouts: 0,
        };
        match self.rests.take(&round.source) {
            Some(rest) => {
                round.listed.continued = true;
                round.rest = rest;
            }
            None => round.begin(folders).await?,
        }
        round.go_on().await?;
        Ok(round.end())
    }
}

impl Round<'_> {
    /// The source as one request shows it; what that does not tell is left for [`Self::go_on`].
    async fn begin(&mut self, folders: &BTreeSet<String>) -> Result<(), ProviderError> {
        let contents = self.provider.read(self.project, &self.source).await?;
        if !self.source.recursive {
            return self.take(self.source.clone(), contents.slots);
        }
        let has_imports = contents.has_imports;
        let mut directories: BTreeMap<String, HashMap<CacheKey, Slot>> = BTreeMap::new();
        for (at, slot) in contents.slots {
            directories.entry(at.path.to_string()).or_default().insert(at, slot);
        }
        if directories.len() > MAX_DIRECTORIES {
            return Err(ProviderError::Misbehaved(format!(
                "it has {} directories, more than {MAX_DIRECTORIES}; name a narrower path",
                directories.len()
            )));
        }
        if !has_imports {
            let slots = directories.into_values().flatten().collect();
            return self.take(self.source.clone(), slots);
        }
        for path in folders.iter().chain([&self.source.path]) {
            directories.entry(path.clone()).or_default();
        }
        self.begin_with_imports(directories).await
    }

    /// A recursive listing names what is imported, and not which of its directories import it. Those
    /// without an import are as it has them.
    async fn begin_with_imports(
        &mut self,
        directories: BTreeMap<String, HashMap<CacheKey, Slot>>,
    ) -> Result<(), ProviderError> {
        // Reading imports is a right of its own, and a rate limit of its own.
        let mut may_ask = true;
        for (path, slots) in directories {
            let has_imports = match may_ask {
                true => self.provider.has_imports(self.project, &path).await,
                false => Ok(true),
            };
            match has_imports {
                Ok(false) => self.take(self.directory(&path), slots)?,
                Ok(true) => self.rest.directories.push_back(path),
                Err(error) => {
                    may_ask = matches!(error, ProviderError::NotFound(_));
                    self.rest.directories.push_back(path);
                }
            }
        }
        Ok(())
    }

    /// Lists what is left, as far as it goes.
    async fn go_on(&mut self) -> Result<(), ProviderError> {
        while let Some(path) = self.rest.directories.pop_front() {
            let extent = self.directory(&path);
            let read = self.provider.read(self.project, &extent).await;
            match read {
                Ok(Contents { slots, .. }) => self.take(extent, slots)?,
                Err(error) if self.is_of_all(&error) => {
                    self.rest.directories.push_front(path);
                    self.listed.incomplete = Some(error);
                    break;
                }
                // One directory that is gone, refused or broken says nothing of the others.
                Err(error) => self.listed.refused.push((extent, error)),
            }
        }
        while self.listed.incomplete.is_none()
            && let Some(at) = self.rest.keys.pop_front()
        {
            self.get(at).await?;
        }
        Ok(())
    }

    async fn get(&mut self, at: CacheKey) -> Result<(), ProviderError> {
        match self.provider.by_name(self.project, &at, View::Expanded).await {
            Ok(value) => {
                self.bytes += value.expose_secret().len();
                self.listed.listing.found.push((at, value));
                return self.within_bounds();
            }
            Err(ProviderError::Denied(why)) => self.listed.listing.denied.push((at, why)),
            Err(error) if self.is_of_all(&error) => {
                self.rest.keys.push_front(at);
                self.listed.incomplete = Some(error);
            }
            Err(error) => self.listed.listing.unread.push((at, error.to_string())),
        }
        Ok(())
    }

    /// Takes over what an extent has.
    fn take(
        &mut self,
        extent: ListingScope,
        slots: HashMap<CacheKey, Slot>,
    ) -> Result<(), ProviderError> {
        let listing = &mut self.listed.listing;
        listing.extents.push(extent);
        for (at, slot) in slots {
            match slot {
                Slot::Value(value) => {
                    self.bytes += value.expose_secret().len();
                    listing.found.push((at, value));
                }
                Slot::ByName => self.rest.keys.push_back(at),
                Slot::Denied(why) => listing.denied.push((at, why)),
                Slot::Unread(why) => listing.unread.push((at, why)),
            }
        }
        self.within_bounds()
    }

    fn within_bounds(&self) -> Result<(), ProviderError> {
        if self.bytes > MAX_SOURCE_BYTES { Err(too_much(&self.source)) } else { Ok(()) }
    }

    /// Whether the next request would end as this one did.
    fn is_of_all(&mut self, error: &ProviderError) -> bool {
        self.timeouts += usize::from(matches!(error, ProviderError::TimedOut(_)));
        error.is_host_wide()
            || self.timeouts >= TIMEOUTS
            || matches!(
                error,
                ProviderError::Throttled { .. } | ProviderError::Unauthenticated { .. }
            )
    }

    fn directory(&self, path: &str) -> ListingScope {
        ListingScope { path: path.to_owned(), recursive: false, ..self.source.clone() }
    }

    /// What was listed. What is known of the rest stays as it is.
    fn end(mut self) -> Listed {
        if self.listed.incomplete.is_some() {
            let later = self.rest.keys.iter().map(|at| (at.clone(), "it comes later".to_owned()));
            self.listed.listing.unread.extend(later);
            self.provider.rests.keep(self.source, self.rest);
        }
        self.listed
    }
}

impl Rests {
    /// The rest of a source, once.
    fn take(&self, source: &ListingScope) -> Option<Rest> {
        let (since, rest) = self.0.lock().remove(source)?;
        (since.elapsed() < REST_LASTS).then_some(rest)
    }

    fn keep(&self, source: ListingScope, rest: Rest) {
        let mut rests = self.0.lock();
        rests.retain(|_, (since, _)| since.elapsed() < REST_LASTS);
        rests.insert(source, (Instant::now(), rest));
    }
}
