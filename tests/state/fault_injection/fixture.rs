//! An instance in which an operation is tried, with or without the shim.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::shim::{self, Fault};
use super::tree::Tree;
use psi_harness::{Driver, Instance, LIMIT, Process, Psid, Signal, Start, eventually};

/// A step of an operation; `Ok` is its acknowledgement.
pub(super) type Step = fn(&mut Fixture) -> Result<(), String>;

/// An instance and its psid.
pub(super) struct Fixture {
    pub(super) instance: Instance,
    pub(super) psid: Option<Psid>,
    /// The shim's fault for each psid that is started here; without a fault there is no shim.
    shim: Option<Fault>,
}

impl Fixture {
    /// An instance with the files of `tree`.
    pub(super) fn set(tree: &Tree, shim: Option<Fault>) -> Self {
        let instance = Instance::empty();
        tree.write(instance.directory());
        Self { instance, psid: None, shim }
    }

    /// The present files.
    pub(super) fn tree(&self) -> Tree {
        Tree::read(self.instance.directory(), &[self.instance.run()])
    }

    /// A psid that is not started yet.
    pub(super) fn prepare(&self) -> Start {
        let psid = self.instance.psid().env("SYSTEMD_CREDENTIAL_SECRET", self.host_secret());
        match self.shim {
            Some(fault) => shim::preload(psid, &self.instance, fault),
            None => psid,
        }
    }

    /// The host secret to which systemd-creds seals in place of a TPM, which would be slow.
    fn host_secret(&self) -> PathBuf {
        self.instance.credentials().join("host.secret")
    }

    /// Creates the host secret, which every host has.
    pub(super) fn make_host_secret(&self) {
        let mut setup = Command::new("systemd-creds");
        setup.arg("setup").env("SYSTEMD_CREDENTIAL_SECRET", self.host_secret());
        let output = setup.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts psid unless it runs; `Err` if it ended before it was ready.
    pub(super) fn start(&mut self) -> Result<(), String> {
        if self.psid.is_none() {
            let psid = self.psid.insert(self.prepare().launch());
            if !psid.becomes_ready() {
                return Err(psid.log());
            }
        }
        Ok(())
    }

    /// Makes these steps until one fails; returns how many succeeded, and the error.
    pub(super) fn take(&mut self, steps: &[Step]) -> (usize, String) {
        for (done, step) in steps.iter().enumerate() {
            if let Err(why) = step(self) {
                return (done, why);
            }
        }
        (steps.len(), String::new())
    }

    /// Makes a call; `Err` is its stderr. The call ends when psid dies, as with the whole machine:
    /// psi-driver itself would wait for the next psid.
    pub(super) fn call(&mut self, driver: &Driver, stdin: &[u8]) -> Result<(), String> {
        let (reader, mut writer) = std::io::pipe().unwrap();
        // The input is shorter than a pipe's capacity.
        writer.write_all(stdin).unwrap();
        drop(writer);
        let mut command = driver.command();
        command.stdin(reader).stdout(Stdio::null());
        let mut call = Process::start(command);
        let look = Duration::from_millis(5);
        while !call.has_ended_within(look) {
            if self.has_ended() {
                call.kill();
                return Err("psid ended".into());
            }
        }
        let status = call.wait();
        if status.success() { Ok(()) } else { Err(call.stderr()) }
    }

    /// Runs psid with other arguments until it ends; `Err` is its stderr.
    pub(super) fn run(&mut self, args: &[&str]) -> Result<(), String> {
        let mut psid = self.prepare().args(args).launch();
        let status = psid.process.wait();
        if status.success() { Ok(()) } else { Err(psid.log()) }
    }

    /// Whether psid has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        self.psid.as_mut().is_none_or(|psid| psid.process.has_ended_within(Duration::ZERO))
    }

    /// Waits until psid, which is being killed, has ended.
    pub(super) fn ends(&mut self) -> bool {
        self.psid.as_mut().is_some_and(|psid| psid.process.has_ended_within(LIMIT))
    }

    /// The generation on the disk and the reasons of a degradation; `None` if psid does not answer.
    pub(super) fn status(&self) -> Option<(u64, String)> {
        let outcome = self.instance.driver(&["cache", "status", "--json"]).run();
        let status: Value = serde_json::from_slice(&outcome.stdout).ok()?;
        let reasons = status["degraded"].as_array()?.iter().filter_map(Value::as_str);
        Some((status["generation"].as_u64()?, reasons.collect::<Vec<_>>().join("\n")))
    }

    /// Waits until psid reports a generation after this one; `Err` if it ended, or cannot write for
    /// a reason that is not expected.
    pub(super) fn await_generation_after(
        &mut self,
        before: u64,
        known: &str,
    ) -> Result<(), String> {
        eventually("the cache to be written, or not", || {
            if self.has_ended() {
                return Some(Err("psid ended".into()));
            }
            match self.status()? {
                (generation, _) if generation > before => Some(Ok(())),
                (_, why) if why == known => None,
                (_, why) => why.contains("cannot be written").then_some(Err(why)),
            }
        })
    }

    /// Stops psid as systemd does; returns its log, which is `Err` if it ended in another way.
    pub(super) fn stop(&mut self) -> Result<String, String> {
        let mut psid = self.psid.take().unwrap();
        if !psid.process.has_ended_within(Duration::ZERO) {
            psid.process.signal(Signal::SIGTERM);
        }
        let status = psid.process.wait();
        if status.success() { Ok(psid.log()) } else { Err(psid.log()) }
    }

    /// Ends psid as a crash does.
    pub(super) fn crash(&mut self) {
        if let Some(psid) = self.psid.take() {
            psid.crash();
        }
    }
}
