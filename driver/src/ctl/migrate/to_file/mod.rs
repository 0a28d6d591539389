//! `psictl migrate --to file`: hands secrets back to podman's file driver.
//!
//! psid is asked for each value. Then, under podman's locks, the file driver gets the values by one write and podman's
//! record changes by another (`Store::hand_to_file`). psid's registrations are deleted last, and only those whose value
//! was read back from the file driver. An interruption leaves each secret with a driver that has its value; a second run
//! does the rest.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write, stderr, stdin};
use std::path::Path;

use psi_common::{Exit, Paths, SecretBytes, SecretId};

use super::named;
use crate::client::{Client, Deadline, Key};
use crate::ctl::args::MigrateOptions;
use crate::ctl::dependents::Dependents;
use crate::ctl::podman::{self, About, FileDriver, Secret, Secrets, Store};
use crate::ctl::progress::Progress;
use crate::ctl::wording::counted;
use crate::error::CliError;
use crate::stdio;
use report::Outcome;

const TITLE: &str = "migrate";

/// Values by id.
type Values = BTreeMap<SecretId, SecretBytes>;

/// Podman's secrets and psid's registrations.
struct Host {
    secrets: Secrets,
    registered: BTreeSet<SecretId>,
    about: About,
}

pub(super) fn run(paths: &Paths, options: &MigrateOptions) -> Result<(), CliError> {
    let host = Host::load(paths)?;
    let leaving = named(&host.secrets, &options.names, Secret::names_psi)?;
    let store = Store::of(&host.about.graph_root);
    let mut done = Outcome::of(store.file_driver().path());
    if !leaving.is_empty() {
        if !options.dry_run {
            confirm(&done.plaintext, leaving.len(), options.yes)?;
        }
        done.users = users();
    }
    let mut values = fetch(paths, &leaving, &mut done);
    if !options.dry_run {
        let handed = store.hand_to_file(&values)?;
        values.retain(|id, _| handed.contains(id));
    }
    done.note_moved(&leaving, &values);
    host.release(paths, options, &values, &mut done)?;
    if !options.dry_run {
        done.drop_in = paths.podman_drop_in.exists().then(|| paths.podman_drop_in.clone());
        done.remaining = Some(Dependents::find(paths));
    }
    stdio::write_text(&report::of(&done, options))?;
    result(&done)
}

impl Host {
    fn load(paths: &Paths) -> Result<Self, CliError> {
        let registered = Client::new(paths, Deadline::Admin).registrations()?;
        Ok(Self {
            registered: registered.iter().filter_map(|one| one.id.parse().ok()).collect(),
            secrets: podman::secrets()?,
            about: podman::about()?,
        })
    }

    /// Deletes psid's registrations of secrets that podman's file driver has: those that moved, and those that an
    /// interrupted run left.
    fn release(
        &self,
        paths: &Paths,
        options: &MigrateOptions,
        moved: &Values,
        done: &mut Outcome,
    ) -> Result<(), CliError> {
        let is_left =
            |secret: &&Secret| secret.driver == "file" && self.registered.contains(&secret.id);
        let mut releasable = named(&self.secrets, &options.names, |secret| is_left(&secret))?;
        if !options.dry_run {
            let of_moved = |secret: &&Secret| moved.contains_key(&secret.id);
            releasable.extend(self.secrets.iter().filter(of_moved));
        }
        let ids = podman::ids(releasable.iter().copied());
        let mut present = Values::new();
        for files in FileDriver::all(&self.about.graph_root, releasable.iter().copied(), &[]) {
            present.extend(files.values(&ids)?);
        }
        let client = Client::new(paths, Deadline::Admin);
        let progress = Progress::of("registrations removed", releasable.len());
        for (count, secret) in releasable.into_iter().enumerate() {
            progress.show(count);
            let has_value = present.get(&secret.id).is_some_and(|value| {
                moved.get(&secret.id).is_none_or(|moved| moved.same_as(value))
            });
            let released = match (has_value, options.dry_run) {
                (false, _) => Err("podman's file driver does not have its value".to_owned()),
                (true, true) => Ok(()),
                (true, false) => client.delete(secret.id, false).map_err(|why| why.to_string()),
            };
            done.note_released(secret, released);
        }
        Ok(())
    }
}

/// Says that the values become plaintext, and asks for a confirmation unless it was given.
fn confirm(plaintext: &Path, count: usize, is_confirmed: bool) -> Result<(), CliError> {
    let warning = format!(
        "podman's file driver keeps values in plaintext: root can read them in {}, and so can anyone with the disk or a \
         backup of it",
        plaintext.display()
    );
    let can_be_asked = stdin().is_terminal() && stderr().is_terminal();
    if !(is_confirmed || can_be_asked) {
        let remedy = "see `psictl migrate --to file --dry-run`, then add --yes";
        return Err(CliError::new(Exit::Usage, warning, remedy));
    }
    crate::ctl::note(TITLE, &warning);
    if is_confirmed {
        return Ok(());
    }
    let _ = write!(stderr(), "Type yes to move {}: ", counted(count, "secret"));
    if stdio::read_line()?.same_as(&SecretBytes::new(b"yes".to_vec())) {
        return Ok(());
    }
    Err(CliError::without_remedy(Exit::Usage, "not confirmed: nothing was changed"))
}

/// The containers of this podman, by the secrets that they use.
fn users() -> BTreeMap<String, BTreeSet<String>> {
    let containers = podman::containers().unwrap_or_else(|failure| {
        crate::ctl::note(TITLE, &format!("the containers are not known: {failure}"));
        Vec::new()
    });
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for container in containers {
        for word in container.words {
            users.entry(word).or_default().insert(container.name.clone());
        }
    }
    users
}

/// The values that psid has; the secrets without one are noted as left.
fn fetch(paths: &Paths, secrets: &[&Secret], done: &mut Outcome) -> Values {
    let client = Client::new(paths, Deadline::Admin);
    let progress = Progress::of("secrets fetched", secrets.len());
    let mut values = Values::new();
    for (count, secret) in secrets.iter().enumerate() {
        progress.show(count);
        match client.lookup(&Key::Id(secret.id)) {
            Ok(value) => {
                values.insert(secret.id, value);
            }
            Err(failure) => {
                done.left.insert(secret.name.clone(), failure.to_string());
            }
        }
    }
    values
}

fn result(done: &Outcome) -> Result<(), CliError> {
    let left = done.left.len() + done.kept.len();
    if left == 0 {
        return Ok(());
    }
    let what = format!("{} not moved completely", counted(left, "secret"));
    Err(CliError::new(Exit::Drift, what, "see the lines that begin with `left` and `kept`"))
}
