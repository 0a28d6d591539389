//! A process that does not outlive what it is for.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// A running program.
pub struct Child(std::process::Child);

impl Child {
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.spawn().map_err(|error| format!("{name}: {error}"))?))
    }

    pub fn inner(&mut self) -> &mut std::process::Child {
        &mut self.0
    }

    /// Its resident memory, in MiB.
    pub fn resident(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.0.id());
        let status = std::fs::read_to_string(path)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.ok_or("no VmRSS")?.parse::<f64>()? / 1024.0)
    }

    /// What it has had written to disks so far, in bytes.
    pub fn written(&self) -> Result<f64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.0.id()))?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.ok_or("no write_bytes")?.parse()?)
    }

    /// The processor time that it has had so far, in µs.
    pub fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // Fields 14 and 15, in hundredths of a second; the name before them may hold spaces.
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest).ok_or("no stat")?;
        let ticks: Option<f64> =
            rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks.ok_or("no times")? * 1e4)
    }

    /// Ends it in order.
    pub fn terminate(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let start = Instant::now();
        while self.0.try_wait()?.is_none() {
            if start.elapsed() > Duration::from_secs(20) {
                return Err("it does not end".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
