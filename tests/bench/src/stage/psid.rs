//! A psid with files of its own, started as systemd does: its key and its identity's secret are credentials
//! that are open already, and it tells when it is ready.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::fake_infisical::{CLIENT_SECRET, PROJECT};
use super::{Child, FakeInfisical, Programs};
use crate::Result;

/// A folder with `etc`, `state`, `cred` and `run` below it.
pub struct World {
    folder: TempDir,
    programs: Programs,
}

/// A psid that is ready.
pub struct Psid<'a> {
    pub process: Child,
    world: &'a World,
}

impl World {
    /// Of one workload `app` for each of the first `folders` of the fake.
    pub fn of(programs: &Programs, fake: &FakeInfisical, folders: usize) -> Result<Self> {
        let mut config = format!(
            "[cache]\nbackend = \"tpm\"\n\
             [providers.infisical]\napi_url = \"{}\"\n\
             [providers.infisical.auth]\nmethod = \"universal-auth\"\nclient_id = \"client\"\n\
             client_secret_credential = \"infisical-client-secret\"\n\
             [providers.infisical.projects.myproject]\nid = \"{PROJECT}\"\nenvironment = \"prod\"\n",
            fake.url
        );
        for folder in 0..folders {
            write!(
                config,
                "[workloads.app{folder}]\nprovider = \"infisical\"\n\
                 secrets = [{{ project = \"myproject\", path = \"/f{folder}\" }}]\n"
            )?;
        }
        let folder = tempfile::Builder::new().prefix("psi-").tempdir_in("/tmp")?;
        for name in ["etc", "state", "cred", "run"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("etc/config.toml"), config)?;
        std::fs::write(path("cred/psi-cache-key"), [7; 32])?;
        std::fs::write(path("cred/infisical-client-secret"), CLIENT_SECRET)?;
        Ok(Self { folder, programs: programs.clone() })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/psid.sock")
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("etc/config.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn cache(&self) -> PathBuf {
        self.state().join("cache.enc")
    }

    /// The size of `cache.enc`, in bytes.
    pub fn cache_size(&self) -> Result<f64> {
        Ok(std::fs::metadata(self.cache())?.len() as f64)
    }

    /// Starts psid; how long it took to be ready, in ms, comes with it.
    pub fn start(&self) -> Result<(Psid<'_>, f64)> {
        let address = self.folder.path().join("run/notify.sock");
        let _ = std::fs::remove_file(&address);
        let notify = UnixDatagram::bind(&address)?;
        notify.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut command = Command::new(&self.programs.psid);
        command.args(["--log-level", "warn"]).env_clear().envs(self.environment());
        command.env("CREDENTIALS_DIRECTORY", self.folder.path().join("cred"));
        command.env("PSI_STATE_DIR", self.state()).env("NOTIFY_SOCKET", &address);
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(self.folder.path().join("log"))?);
        let start = Instant::now();
        let process = Child::start(&mut command)?;
        let mut told = [0; 4096];
        loop {
            let count = notify.recv(&mut told).map_err(|error| {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                format!("psid is never ready: {error}: {}", log.unwrap_or_default())
            })?;
            if told[..count].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                let ready = start.elapsed().as_secs_f64() * 1e3;
                return Ok((Psid { process, world: self }, ready));
            }
        }
    }

    /// What psi-driver needs to find psid, and nothing else.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("PSI_SOCKET", self.socket().into()),
            ("PSI_RUN_DIR", self.folder.path().join("psid").into()),
            ("PSI_CONFIG", self.config().into()),
        ]
    }

    /// psi-driver.
    pub fn driver_program(&self) -> &Path {
        &self.programs.driver
    }

    /// Runs psi-driver; its stdout.
    pub fn driver(&self, args: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.programs.driver);
        command.args(args).env_clear().envs(self.environment()).stdin(Stdio::null());
        let output = command.output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(format!("psi-driver {args:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

impl Psid<'_> {
    /// Pulls every source, and waits until that is on the disk.
    pub fn refresh(&self) -> Result<()> {
        self.world.driver(&["cache", "refresh"])?;
        self.settle().map(|_| ())
    }

    /// Waits until nothing is left to be written; the generation that is on the disk.
    pub fn settle(&self) -> Result<u64> {
        // This writes first what is not written yet.
        self.world.driver(&["cache", "status", "--verify"])?;
        let status = self.world.driver(&["cache", "status", "--json"])?;
        let status: Value = serde_json::from_slice(&status)?;
        Ok(status["generation"].as_u64().ok_or("no generation")?)
    }
}
