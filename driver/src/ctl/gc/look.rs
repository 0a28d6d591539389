//! What there is, and what of it is proven to be unused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use psi_common::{Paths, Scope, SecretId};
use psi_proto::v1::Registration;

use crate::client::{Client, Deadline, Key};
use crate::ctl::args::GcOptions;
use crate::ctl::plaintext::Plaintext;
use crate::ctl::podman::{self, FileDriver, IN_A_HOME, Record, Secrets, record_in_home, record_of};
use crate::error::CliError;

/// Of one store, no more goes at once, nor more than half.
const MOST: usize = 50;

/// What was looked at, and what of it is unused.
pub(super) struct Found {
    /// The stores that were looked at, with what they have.
    pub(super) stores: BTreeMap<PathBuf, Record>,
    /// Those that were not, or whose look proves nothing, and why.
    pub(super) unread: BTreeMap<PathBuf, String>,
    pub(super) registered: usize,
    /// To be removed.
    pub(super) unused: Vec<Registration>,
    /// No store that was looked at has them, and that proves nothing: why.
    pub(super) kept: Vec<(Registration, String)>,
    pub(super) plaintext: Plaintext,
    /// Values of podman's file driver that no secret refers to, and that psid does not serve.
    pub(super) leftover: BTreeSet<SecretId>,
    /// Whether these go too.
    pub(super) takes_leftover: bool,
    /// Whether there may be users' stores at places that nobody names.
    pub(super) has_users: bool,
}

impl Found {
    /// The values in plaintext that go.
    pub(super) fn values_to_remove(&self) -> BTreeSet<SecretId> {
        let leftover = self.leftover.iter().filter(|_| self.takes_leftover);
        self.plaintext.proven.iter().chain(leftover).copied().collect()
    }

    /// How many values in plaintext stay though no secret refers to them.
    pub(super) fn left_values(&self) -> usize {
        if self.takes_leftover { 0 } else { self.leftover.len() }
    }
}

/// What psid and the file driver have first: podman has recorded each of it by the time that it answers, for it
/// holds its lock from before it hands a value over. The other way round, a secret that is made meanwhile would
/// be nobody's, and be destroyed.
pub(super) fn look(paths: &Paths, options: &GcOptions) -> Result<Found, CliError> {
    let registered = Client::new(paths, Deadline::Admin).registrations()?;
    let graph_root = podman::about()?.graph_root;
    let in_clear = FileDriver::of(&graph_root).ids()?;
    let secrets = podman::secrets()?;
    let mut looks = Looks::default();
    looks.note(&graph_root, Ok(Some(names_of(&secrets))));
    looks.at_others(options, &registered);
    looks.doubt_empty_ones(&registered);
    let Looks { stores, unread } = looks;
    let mut plaintext = Plaintext::look(FileDriver::of(&graph_root), &secrets)?;
    let leftover = leftover(paths, &secrets, &in_clear, &registered, &mut plaintext)?;
    let is_known = |one: &Registration| {
        let known = |id| stores.values().any(|store| store.contains_key(&id));
        one.id.parse().map_or(true, known)
    };
    let count = registered.len();
    let unknown: Vec<Registration> =
        registered.iter().filter(|one| !is_known(one)).cloned().collect();
    let verdicts = Tristates::of(&registered, &unknown, &stores, &unread, options);
    let (unused, kept) = verdicts.divide(unknown);
    let is_sure = !secrets.is_empty() || options.force;
    Ok(Found {
        stores,
        unread,
        registered: count,
        unused,
        kept,
        plaintext,
        leftover,
        takes_leftover: options.remove_plaintext && is_sure,
        has_users: Scope::of_this_process() == Scope::System,
    })
}

fn names_of(secrets: &Secrets) -> Record {
    secrets.iter().map(|secret| (secret.id, secret.name.clone())).collect()
}

/// Looks at stores.
#[derive(Default)]
struct Looks {
    stores: BTreeMap<PathBuf, Record>,
    unread: BTreeMap<PathBuf, String>,
}

impl Looks {
    /// The stores that are named, those that psid's registrations are noted of, and every user's own.
    fn at_others(&mut self, options: &GcOptions, registered: &[Registration]) {
        let noted = registered.iter().map(|one| Path::new(&one.store));
        let noted = noted.filter(|store| store.is_absolute());
        let named: BTreeSet<&Path> = options.store.iter().map(PathBuf::as_path).collect();
        let named: BTreeSet<&Path> = named.into_iter().chain(noted).collect();
        for home in homes() {
            let root = home.join(IN_A_HOME);
            if !self.has(&root) && !named.contains(root.as_path()) {
                match record_in_home(&home) {
                    Ok(None) => {}
                    looked => self.note(&root, looked),
                }
            }
        }
        for root in named {
            if !self.has(root) {
                self.note(root, record_of(root));
            }
        }
    }

    fn has(&self, root: &Path) -> bool {
        self.stores.contains_key(root) || self.unread.contains_key(root)
    }

    fn note(&mut self, root: &Path, looked: std::io::Result<Option<Record>>) {
        match looked {
            Ok(Some(record)) => {
                self.stores.insert(root.to_owned(), record);
            }
            Ok(None) => {
                self.unread.insert(root.to_owned(), "it has no record of secrets".into());
            }
            Err(cause) => {
                self.unread.insert(root.to_owned(), cause.to_string());
            }
        }
    }

    /// A store that is empty and was not is one that was reset, or is not mounted, or another one.
    fn doubt_empty_ones(&mut self, registered: &[Registration]) {
        let empty = self.stores.extract_if(.., |root, record| {
            record.is_empty() && registered.iter().any(|one| Path::new(&one.store) == root)
        });
        let why = "it has no secret any more, and had some of psid's";
        self.unread.extend(empty.map(|(root, _)| (root, why.to_owned())));
    }
}

/// Every user's, where this psid serves them.
fn homes() -> BTreeSet<PathBuf> {
    if Scope::of_this_process() != Scope::System {
        return BTreeSet::new();
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let homes = users.lines().filter_map(|user| user.split(':').nth(5)).map(PathBuf::from);
    homes.filter(|home| home.is_absolute()).collect()
}

/// By store, why what it lost is not proven to be unused.
struct Tristates<'a> {
    doubted: BTreeMap<PathBuf, String>,
    stores: &'a BTreeMap<PathBuf, Record>,
    force: bool,
}

impl<'a> Tristates<'a> {
    fn of(
        registered: &[Registration],
        unknown: &[Registration],
        stores: &'a BTreeMap<PathBuf, Record>,
        unread: &BTreeMap<PathBuf, String>,
        options: &GcOptions,
    ) -> Self {
        let mut doubted = unread.clone();
        for root in stores.keys() {
            let of = |all: &[Registration]| {
                all.iter().filter(|one| Path::new(&one.store) == root).count()
            };
            let (lost, had) = (of(unknown), of(registered));
            if (lost * 2 > had || lost > MOST) && !options.accept_removals {
                let why = format!(
                    "it lost {lost} of the {had} that it had; --accept-removals removes them"
                );
                doubted.insert(root.clone(), why);
            }
        }
        Self { doubted, stores, force: options.force }
    }

    fn divide(
        &self,
        unknown: Vec<Registration>,
    ) -> (Vec<Registration>, Vec<(Registration, String)>) {
        let (mut unused, mut kept) = (Vec::new(), Vec::new());
        for one in unknown {
            match self.doubt(&one) {
                Some(why) => kept.push((one, why)),
                None => unused.push(one),
            }
        }
        (unused, kept)
    }

    /// Why a registration that no store has is kept.
    fn doubt(&self, one: &Registration) -> Option<String> {
        if self.force {
            return None;
        }
        let store = Path::new(&one.store);
        if one.store.is_empty() {
            return Some("no store is known to have had it, so its store may not be one of those that were looked at".into());
        }
        let why = match self.doubted.get(store) {
            Some(why) => why.as_str(),
            None if self.stores.contains_key(store) => return None,
            None => "it was not looked at",
        };
        Some(format!("it was in {}: {why}", store.display()))
    }
}

/// Values that no secret refers to. One that psid serves under that very id is proven; one that psid serves
/// another value for differs, and stays; what psid does not know is left over.
fn leftover(
    paths: &Paths,
    secrets: &Secrets,
    in_clear: &BTreeSet<SecretId>,
    registered: &[Registration],
    plaintext: &mut Plaintext,
) -> Result<BTreeSet<SecretId>, CliError> {
    let used = secrets.iter().filter(|secret| secret.driver == "file" || secret.names_psi());
    let used = podman::ids(used);
    let unused: BTreeSet<SecretId> = in_clear.difference(&used).copied().collect();
    let of_psid = |id: &&SecretId| registered.iter().any(|one| one.id == id.as_str());
    let served: BTreeSet<SecretId> = unused.iter().filter(of_psid).copied().collect();
    for (id, value) in plaintext.values(&served)? {
        match Client::new(paths, Deadline::Admin).lookup(&Key::Id(id)) {
            Ok(now) if now.same_as(&value) => {
                plaintext.proven.insert(id);
            }
            Ok(_) => plaintext.differ(id, "psi gives another value"),
            Err(failure) => plaintext.differ(id, &failure.to_string()),
        }
    }
    Ok(unused.difference(&served).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_store(number: u32, store: &str) -> Registration {
        let id = format!("{number:025x}");
        Registration { id, store: store.into(), ..Registration::default() }
    }

    fn options() -> GcOptions {
        GcOptions {
            dry_run: false,
            json: false,
            store: Vec::new(),
            accept_removals: false,
            remove_plaintext: false,
            force: false,
        }
    }

    /// How many of `lost` of `had` registrations of one store go.
    fn unused(had: u32, lost: u32, options: &GcOptions) -> usize {
        let registered: Vec<_> = (0..had).map(|number| of_store(number, "/s")).collect();
        let stores = BTreeMap::from([(PathBuf::from("/s"), Record::new())]);
        let unknown = registered[..lost as usize].to_vec();
        let verdicts = Tristates::of(&registered, &unknown, &stores, &BTreeMap::new(), options);
        verdicts.divide(unknown).0.len()
    }

    #[test]
    fn no_more_than_half_of_a_store_and_no_more_than_fifty_go_at_once() {
        assert_eq!([unused(2, 1, &options()), unused(2, 2, &options())], [1, 0]);
        assert_eq!([unused(101, 50, &options()), unused(200, 51, &options())], [50, 0]);
        let all = GcOptions { accept_removals: true, ..options() };
        assert_eq!([unused(2, 2, &all), unused(200, 51, &all)], [2, 51]);
    }

    #[test]
    fn what_was_in_no_known_store_is_kept_without_force() {
        let unknown = [of_store(1, ""), of_store(2, "/gone"), of_store(3, "/s")];
        let registered = [&unknown[..], &[of_store(4, "/s")]].concat();
        let stores = BTreeMap::from([(PathBuf::from("/s"), Record::new())]);
        let unread = BTreeMap::from([(PathBuf::from("/gone"), "it is not there".to_owned())]);
        let divided = |options: &GcOptions| {
            let verdicts = Tristates::of(&registered, &unknown, &stores, &unread, options);
            let (unused, kept) = verdicts.divide(unknown.to_vec());
            (unused.len(), kept.into_iter().map(|(_, why)| why).collect::<Vec<_>>())
        };
        let (unused, why) = divided(&GcOptions { accept_removals: true, ..options() });
        assert_eq!(unused, 1);
        assert!(why[0].starts_with("no store is known") && why[1].ends_with("it is not there"));
        assert_eq!(divided(&GcOptions { force: true, ..options() }).0, 3);
    }
}
