//! A host with its own psid, podman and quadlets.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::podman::Podman;
use crate::{Driver, FakeInfisical, Instance, Outcome, Psid, program, run};

/// Everything that a setup reads and writes.
pub struct Host {
    /// The fake Infisical.
    pub infisical: FakeInfisical,
    /// The files of psi.
    pub instance: Instance,
    /// The running psid; `None` while it is stopped.
    pub psid: Option<Psid>,
    /// Podman with its own store.
    pub podman: Podman,
}

impl Host {
    /// A host whose config has these workloads and the fake.
    pub fn of(secrets: &Value, workloads: &str) -> Self {
        let infisical = FakeInfisical::with(secrets);
        let instance = Instance::of(&infisical);
        let mut host = Self { podman: Podman::of(&instance), psid: None, instance, infisical };
        fs::create_dir(host.quadlets()).unwrap();
        host.configure(workloads);
        host.start_psid();
        host
    }

    /// A host with a configured instance; psid is not started.
    pub fn around(instance: Instance) -> Self {
        let infisical = FakeInfisical::with(&json!({}));
        let host = Self { podman: Podman::of(&instance), psid: None, instance, infisical };
        fs::create_dir(host.quadlets()).unwrap();
        host
    }

    /// One workload `myapp` that reads `/myapp`.
    pub fn with_myapp(secrets: &Value) -> Self {
        Self::of(&json!({"/myapp": secrets}), &workload("myapp", &[("/myapp", false)]))
    }

    /// Writes a config with these workloads.
    pub fn configure(&self, workloads: &str) {
        let mut config = crate::Config::of(&self.infisical);
        config.rest = workloads.to_owned();
        self.instance.configure(&config);
    }

    /// Writes a config with these workloads and reloads psid.
    pub fn reconfigure(&mut self, workloads: &str) {
        self.configure(workloads);
        self.psid.as_mut().unwrap().reload();
    }

    /// The directory of the quadlets.
    pub fn quadlets(&self) -> PathBuf {
        self.instance.directory().join("quadlets")
    }

    /// The text of a workload's drop-in.
    #[track_caller]
    pub fn drop_in(&self, workload: &str) -> String {
        fs::read_to_string(self.drop_in_path(workload)).unwrap()
    }

    /// The path of a workload's drop-in.
    pub fn drop_in_path(&self, workload: &str) -> PathBuf {
        self.quadlets().join(format!("{workload}.container.d/50-psi.conf"))
    }

    /// A psi-driver call that finds this host's podman.
    pub fn driver(&self, args: &[&str]) -> Driver {
        let environment = self.podman.environment();
        environment
            .fold(self.instance.driver(args), |driver, (name, value)| driver.env(name, value))
    }

    /// `psictl setup`.
    pub fn setup(&self, args: &[&str]) -> Driver {
        self.setup_with(&program("psi-driver"), args)
    }

    /// `psictl setup` with another path of psi-driver in podman's commands.
    pub fn setup_with(&self, program: &Path, args: &[&str]) -> Driver {
        let quadlets = self.quadlets();
        let (program, quadlets) = (program.to_str().unwrap(), quadlets.to_str().unwrap());
        let always = ["setup", "--program", program, "--quadlets", quadlets];
        self.driver(&[&always[..], args].concat())
    }

    /// A setup that must succeed, as JSON.
    #[track_caller]
    pub fn set_up(&self, args: &[&str]) -> Value {
        self.setup(&[&["--json"], args].concat()).json()
    }

    /// A dry run with this exit status, as JSON.
    #[track_caller]
    pub fn dry_run(&self, code: i32) -> Value {
        let outcome = self.setup(&["--dry-run", "--json"]).run();
        let printed = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (code, ""), "{printed}");
        serde_json::from_str(&printed).unwrap()
    }

    /// Podman's ids, by name.
    #[track_caller]
    pub fn ids(&self) -> BTreeMap<String, String> {
        let listed = self.podman.ok(&["secret", "ls", "--format", "{{.Name}} {{.ID}}"]);
        let pairs = listed.lines().map(|line| line.split_once(' ').unwrap());
        pairs.map(|(name, id)| (name.to_owned(), id.to_owned())).collect()
    }

    /// The inode and time of podman's record: they change with each write.
    #[track_caller]
    pub fn record(&self) -> (u64, i64, i64) {
        let record = fs::metadata(self.podman.secrets_directory().join("secrets.json")).unwrap();
        (record.ino(), record.mtime(), record.mtime_nsec())
    }

    /// The output of a secret's lookup command in podman's record.
    #[track_caller]
    pub fn lookup(&self, name: &str) -> String {
        let options = self.podman.driver_options(name);
        let outcome = self.podman.as_podman(&options["lookup"], &self.ids()[name], b"");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{name}");
        String::from_utf8(outcome.stdout).unwrap()
    }

    /// Stops psid by SIGTERM.
    pub fn stop_psid(&mut self) {
        self.psid.take().unwrap().terminate();
    }

    /// Starts psid, and waits until it is ready.
    pub fn start_psid(&mut self) {
        self.psid = Some(self.instance.start());
    }

    /// A quadlet of a workload.
    pub fn write_quadlet(&self, name: &str) {
        let text = "[Container]\nImage=localhost/bb:1\nExec=sleep 1000\n";
        fs::write(self.quadlets().join(format!("{name}.container")), text).unwrap();
    }
}

/// `[workloads.NAME]` with these directories and whether they are recursive.
pub fn workload(name: &str, sources: &[(&str, bool)]) -> String {
    let sources = sources.iter().map(|(path, recursive)| {
        format!("{{ project = \"myproject\", path = \"{path}\", recursive = {recursive} }}")
    });
    let sources = sources.collect::<Vec<_>>().join(", ");
    format!("[workloads.\"{name}\"]\nprovider = \"infisical\"\nsecrets = [{sources}]\n")
}

/// The units that quadlet generates from a directory; panics if it reports an error.
#[track_caller]
pub fn generate(quadlets: &Path) -> String {
    generated(&run_quadlet(quadlets))
}

/// The same by the quadlet of each podman at hand.
#[track_caller]
pub fn generate_by_each(quadlets: &Path) -> Vec<String> {
    let trees = fs::read_dir(crate::target_directory().join("tools/podmans"));
    let trees = trees.into_iter().flatten().map(|tree| tree.unwrap().path());
    let programs = trees.map(|tree| tree.join("usr/libexec/podman/quadlet"));
    let of_trees: Vec<PathBuf> = programs.filter(|program| program.exists()).collect();
    assert!(!of_trees.is_empty(), "no quadlet: run tests/deps.sh, which fetches one");
    of_trees.iter().map(|program| generated(&quadlet(program, quadlets))).collect()
}

#[track_caller]
fn generated(outcome: &Outcome) -> String {
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let complaints = ["rror", "nsupported", "kipping", "ailed"];
    let bad = outcome.stderr.lines().find(|line| complaints.iter().any(|word| line.contains(word)));
    assert_eq!(bad, None, "{}", outcome.stderr);
    outcome.stdout_text()
}

/// A dry run of quadlet over a directory.
pub fn run_quadlet(quadlets: &Path) -> Outcome {
    let own = crate::target_directory().join("tools/quadlet");
    let places = [own, "/usr/libexec/podman/quadlet".into(), "/usr/lib/podman/quadlet".into()];
    let quadlet = places.iter().find(|path| path.exists());
    let quadlet = quadlet.expect("no quadlet: run tests/deps.sh, which fetches one");
    self::quadlet(quadlet, quadlets)
}

fn quadlet(program: &Path, quadlets: &Path) -> Outcome {
    let mut command = Command::new(program);
    command.args(["-dryrun", "-v"]).env_clear().env("QUADLET_UNIT_DIRS", quadlets);
    run(command, b"")
}
