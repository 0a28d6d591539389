//! The registrations, podman's stores, and which registrations are proven to be unused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use psi_common::{Paths, Scope, SecretId};
use psi_proto::v1::Registration;

use crate::client::{Client, Deadline, Key};
use crate::ctl::args::GcOptions;
use crate::ctl::plaintext::Plaintext;
use crate::ctl::podman::{
    self, FileDriver, OfDriver, Record, STORE_IN_HOME, Secrets, homes, record_in_home, record_of,
};
use crate::error::CliError;

/// The registrations of one store that are removed at once without a confirmation; more than half always needs one.
const MAX_REMOVALS: usize = 50;

/// The stores that were read, and the registrations that are unused.
pub(super) struct GcInventory {
    /// The stores that were read, with their secrets.
    pub(super) stores: BTreeMap<PathBuf, Record>,
    /// The stores that could not be read or that prove nothing, with the reason.
    pub(super) unread: BTreeMap<PathBuf, String>,
    pub(super) registered: usize,
    /// The registrations to remove.
    pub(super) unused: Vec<Registration>,
    /// The registrations that no store has but that are not proven to be unused, with the reason.
    pub(super) kept: Vec<(Registration, String)>,
    pub(super) plaintext: Plaintext,
    /// Values of podman's file driver that no secret refers to and that psid does not serve.
    pub(super) leftover: BTreeSet<SecretId>,
    /// Whether these are removed too.
    pub(super) removes_leftover: bool,
    /// Whether users may have stores at unknown paths.
    pub(super) has_users: bool,
}

impl GcInventory {
    /// The plaintext values to remove.
    pub(super) fn values_to_remove(&self) -> BTreeSet<SecretId> {
        let leftover = self.leftover.iter().filter(|_| self.removes_leftover);
        self.plaintext.proven.iter().chain(leftover).copied().collect()
    }

    /// The number of plaintext values that are kept although no secret refers to them.
    pub(super) fn left_values(&self) -> usize {
        if self.removes_leftover { 0 } else { self.leftover.len() }
    }
}

/// Reads psid and the file driver before podman: podman records a secret under the same lock under which it hands the
/// value over. In the other order, a secret that is created in between would seem unused and be destroyed.
pub(super) fn load(paths: &Paths, options: &GcOptions) -> Result<GcInventory, CliError> {
    let registered = Client::new(paths, Deadline::Admin).registrations()?;
    let graph_root = podman::about()?.graph_root;
    let in_clear = FileDriver::of(&graph_root).ids()?;
    let secrets = podman::secrets()?;
    let mut scan = StoreScan::default();
    scan.note(&graph_root, Ok(Some(names_of(&secrets))));
    scan.read_others(options, &registered);
    scan.distrust_empty(&registered);
    let StoreScan { stores, unread } = scan;
    let mut plaintext = Plaintext::compare(FileDriver::of(&graph_root), &secrets)?;
    let leftover = leftover(paths, &secrets, &in_clear, &registered, &mut plaintext)?;
    let is_known = |one: &Registration| {
        let known = |id| stores.values().any(|store| store.contains_key(&id));
        one.id.parse().map_or(true, known)
    };
    let count = registered.len();
    let unknown: Vec<Registration> =
        registered.iter().filter(|one| !is_known(one)).cloned().collect();
    let rules = RemovalRules::of(&registered, &unknown, &stores, &unread, options);
    let (unused, kept) = rules.divide(unknown);
    let is_sure = !secrets.is_empty() || options.force;
    Ok(GcInventory {
        stores,
        unread,
        registered: count,
        unused,
        kept,
        plaintext,
        leftover,
        removes_leftover: options.remove_plaintext && is_sure,
        has_users: Scope::of_this_process() == Scope::System,
    })
}

fn names_of(secrets: &Secrets) -> Record {
    secrets.iter().map(|secret| (secret.id, secret.name.clone())).collect()
}

/// The stores that were read so far.
#[derive(Default)]
struct StoreScan {
    stores: BTreeMap<PathBuf, Record>,
    unread: BTreeMap<PathBuf, String>,
}

impl StoreScan {
    /// Reads the given stores, those of psid's registrations, and every user's default store.
    fn read_others(&mut self, options: &GcOptions, registered: &[Registration]) {
        let recorded = registered.iter().map(|one| Path::new(&one.store));
        let recorded = recorded.filter(|store| store.is_absolute());
        let named: BTreeSet<&Path> = options.store.iter().map(PathBuf::as_path).collect();
        let named: BTreeSet<&Path> = named.into_iter().chain(recorded).collect();
        for home in homes() {
            let root = home.join(STORE_IN_HOME);
            if !self.has(&root) && !named.contains(root.as_path()) {
                match record_in_home(&home, OfDriver::Any) {
                    Ok(None) => {}
                    record => self.note(&root, record),
                }
            }
        }
        for root in named {
            if !self.has(root) {
                self.note(root, record_of(root, OfDriver::Any));
            }
        }
    }

    fn has(&self, root: &Path) -> bool {
        self.stores.contains_key(root) || self.unread.contains_key(root)
    }

    fn note(&mut self, root: &Path, record: std::io::Result<Option<Record>>) {
        match record {
            Ok(Some(secrets)) => {
                self.stores.insert(root.to_owned(), secrets);
            }
            Ok(None) => {
                self.unread.insert(root.to_owned(), "it has no record of secrets".into());
            }
            Err(cause) => {
                self.unread.insert(root.to_owned(), cause.to_string());
            }
        }
    }

    /// A store that lost all its secrets may have been reset, be unmounted, or be another store.
    fn distrust_empty(&mut self, registered: &[Registration]) {
        let empty = self.stores.extract_if(.., |root, record| {
            record.is_empty() && registered.iter().any(|one| Path::new(&one.store) == root)
        });
        let why = "it has no secret now, but had secrets of psid";
        self.unread.extend(empty.map(|(root, _)| (root, why.to_owned())));
    }
}

/// The rules by which an unknown registration is removed or kept.
struct RemovalRules<'a> {
    /// The stores whose losses prove nothing, with the reason.
    unproven: BTreeMap<PathBuf, String>,
    stores: &'a BTreeMap<PathBuf, Record>,
    force: bool,
}

impl<'a> RemovalRules<'a> {
    fn of(
        registered: &[Registration],
        unknown: &[Registration],
        stores: &'a BTreeMap<PathBuf, Record>,
        unread: &BTreeMap<PathBuf, String>,
        options: &GcOptions,
    ) -> Self {
        let mut unproven = unread.clone();
        for root in stores.keys() {
            let of = |all: &[Registration]| {
                all.iter().filter(|one| Path::new(&one.store) == root).count()
            };
            let (lost, had) = (of(unknown), of(registered));
            if (lost * 2 > had || lost > MAX_REMOVALS) && !options.accept_removals {
                let why =
                    format!("it lost {lost} of its {had} secrets; --accept-removals removes them");
                unproven.insert(root.clone(), why);
            }
        }
        Self { unproven, stores, force: options.force }
    }

    fn divide(
        &self,
        unknown: Vec<Registration>,
    ) -> (Vec<Registration>, Vec<(Registration, String)>) {
        let (mut unused, mut kept) = (Vec::new(), Vec::new());
        for one in unknown {
            match self.reason_to_keep(&one) {
                Some(why) => kept.push((one, why)),
                None => unused.push(one),
            }
        }
        (unused, kept)
    }

    /// The reason to keep a registration that no store has.
    fn reason_to_keep(&self, one: &Registration) -> Option<String> {
        if self.force {
            return None;
        }
        let store = Path::new(&one.store);
        if one.store.is_empty() {
            return Some("it is not known which store had it, so its store may not be one of those that were read".into());
        }
        let why = match self.unproven.get(store) {
            Some(why) => why.as_str(),
            None if self.stores.contains_key(store) => return None,
            None => "it was not read",
        };
        Some(format!("it was in {}: {why}", store.display()))
    }
}

/// The plaintext values that no secret refers to and psid does not serve. Of the others, values equal to psid's are noted
/// as proven, different ones as differing.
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
            Ok(_) => plaintext.note_differing(id, "psid has another value"),
            Err(failure) => plaintext.note_differing(id, &failure.to_string()),
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

    /// How many of the `lost` registrations of a store are removed, of `had` that it had.
    fn unused(had: u32, lost: u32, options: &GcOptions) -> usize {
        let registered: Vec<_> = (0..had).map(|number| of_store(number, "/s")).collect();
        let stores = BTreeMap::from([(PathBuf::from("/s"), Record::new())]);
        let unknown = registered[..lost as usize].to_vec();
        let rules = RemovalRules::of(&registered, &unknown, &stores, &BTreeMap::new(), options);
        rules.divide(unknown).0.len()
    }

    #[test]
    fn rules_limit_the_removals_of_one_store() {
        assert_eq!([unused(2, 1, &options()), unused(2, 2, &options())], [1, 0]);
        assert_eq!([unused(101, 50, &options()), unused(200, 51, &options())], [50, 0]);
        let all = GcOptions { accept_removals: true, ..options() };
        assert_eq!([unused(2, 2, &all), unused(200, 51, &all)], [2, 51]);
    }

    #[test]
    fn rules_keep_registrations_of_unknown_stores_without_force() {
        let unknown = [of_store(1, ""), of_store(2, "/gone"), of_store(3, "/s")];
        let registered = [&unknown[..], &[of_store(4, "/s")]].concat();
        let stores = BTreeMap::from([(PathBuf::from("/s"), Record::new())]);
        let unread = BTreeMap::from([(PathBuf::from("/gone"), "it does not exist".to_owned())]);
        let split = |options: &GcOptions| {
            let rules = RemovalRules::of(&registered, &unknown, &stores, &unread, options);
            let (unused, kept) = rules.divide(unknown.to_vec());
            (unused.len(), kept.into_iter().map(|(_, why)| why).collect::<Vec<_>>())
        };
        let (unused, why) = split(&GcOptions { accept_removals: true, ..options() });
        assert_eq!(unused, 1);
        assert!(
            why[0].starts_with("it is not known which store")
                && why[1].ends_with("it does not exist")
        );
        assert_eq!(split(&GcOptions { force: true, ..options() }).0, 3);
    }
}
