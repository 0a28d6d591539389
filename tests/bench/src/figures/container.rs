//! A container with 100 env secrets, by real podman: psi beside a driver that is `exec cat`.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Bench;
use crate::Result;
use crate::fixture::{FakeInfisical, Instance, reference};
use crate::report::{Row, Side, Target, Unit};
use crate::stats::alternate;

const SECRETS: usize = 100;
const IMAGE: &str = "localhost/bench:1";

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let fake = FakeInfisical::start(&bench.programs, 1, SECRETS)?;
    let instance = Instance::of(&bench.programs, &fake, 1)?;
    let (psid, _) = instance.start()?;
    psid.refresh()?;
    let podman = Podman::of(&instance)?;
    let driver = bench.programs.driver.display();
    let kept = podman.directory.join("cat");
    fs::create_dir(&kept)?;
    let kept = kept.display();
    let ways = [
        ("psi", format!("exec {driver}"), ["lookup", "store", "delete", "list"].map(String::from)),
        (
            "cat",
            "exec".into(),
            [
                format!("cat {kept}/$SECRET_ID"),
                format!("cat >{kept}/$SECRET_ID"),
                format!("rm {kept}/$SECRET_ID"),
                format!("ls {kept}"),
            ],
        ),
    ];
    for (name, program, [lookup, store, delete, list]) in &ways {
        let options = format!(
            "lookup = \"{program} {lookup}\"\nstore = \"{program} {store}\"\n\
             delete = \"{program} {delete}\"\nlist = \"{program} {list}\"\n"
        );
        podman.configure(&options)?;
        for number in 0..SECRETS {
            let data = reference("/f0", &FakeInfisical::key(number));
            podman.run(&["secret", "create", &format!("{name}{number}"), "-"], data.as_bytes())?;
        }
    }
    let mut psi = || podman.start(Some("psi"));
    let mut cat = || podman.start(Some("cat"));
    let mut none = || podman.start(None);
    let [psi, cat, none] = alternate(bench.rounds(40), [&mut psi, &mut cat, &mut none])?;
    let side = |what: &str, samples| Side::new(what, Unit::Millis, samples);
    let without = none.median();
    rows.push(Row::ratio(
        "a container start with 100 env secrets, to exec cat",
        Target::AtMost(1.2, Unit::Times),
        side("psi", psi),
        side(&format!("exec cat (without secrets {without:.0} ms)"), cat),
    ));
    Ok(())
}

/// A podman with its own store.
struct Podman {
    directory: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Podman {
    fn of(instance: &Instance) -> Result<Self> {
        let directory = instance.directory().join("podman");
        fs::create_dir_all(directory.join("net"))?;
        let path = |name: &str| directory.join(name);
        let shown = directory.display();
        // vfs mounts nothing, and the image is small.
        fs::write(
            path("storage.conf"),
            format!(
                "[storage]\ndriver = \"vfs\"\ngraphroot = \"{shown}/root\"\nrunroot = \"{shown}/run\"\n"
            ),
        )?;
        let mut environment = instance.environment();
        environment.extend([
            ("HOME", directory.clone().into()),
            ("CONTAINERS_CONF", path("containers.conf").into()),
            ("CONTAINERS_STORAGE_CONF", path("storage.conf").into()),
        ]);
        let podman = Self { directory, environment };
        podman.configure("")?;
        podman.import_image()?;
        Ok(podman)
    }

    /// Writes the config with these options of the secret driver; podman copies them into each
    /// secret. Low limits, because this machine may be a container itself.
    fn configure(&self, options: &str) -> Result<()> {
        let directory = self.directory.display();
        let secrets = match options {
            "" => String::new(),
            options => format!("[secrets]\ndriver = \"shell\"\n[secrets.opts]\n{options}"),
        };
        let text = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             netns = \"none\"\nlog_driver = \"none\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n\
             lock_type = \"file\"\ntmp_dir = \"{directory}/tmp\"\n\
             [network]\nnetwork_config_dir = \"{directory}/net\"\n{secrets}"
        );
        Ok(fs::write(self.directory.join("containers.conf"), text)?)
    }

    fn import_image(&self) -> Result<()> {
        let root = self.directory.join("image");
        fs::create_dir_all(root.join("bin"))?;
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|at| Path::new(at).exists());
        fs::copy(busybox.ok_or("no busybox: install busybox-static")?, root.join("bin/busybox"))?;
        symlink("busybox", root.join("bin/true"))?;
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-cf", "-", "."]).output()?;
        self.run(&["import", "-q", "-", IMAGE], &tar.stdout)
    }

    /// Runs a container with all secrets of one driver until it ends; returns the time in ms.
    fn start(&self, driver: Option<&str>) -> Result<f64> {
        let secret = |driver: &str, number| format!("--secret={driver}{number},type=env");
        let secrets: Vec<String> = driver
            .into_iter()
            .flat_map(|name| (0..SECRETS).map(move |n| secret(name, n)))
            .collect();
        let mut args = vec!["run", "--rm"];
        args.extend(secrets.iter().map(String::as_str));
        args.extend([IMAGE, "true"]);
        let start = Instant::now();
        self.run(&args, b"")?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    fn run(&self, args: &[&str], stdin: &[u8]) -> Result<()> {
        let mut command = Command::new("podman");
        command.args(args).env_clear().envs(self.environment.clone()).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().ok_or("no stdin")?.write_all(stdin)?;
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("podman {}: {}", args[0], String::from_utf8_lossy(&output.stderr)).into())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "-fa", "-t", "0"], b"");
        // The cleanup of an ended container may still run in the directory.
        let start = Instant::now();
        while is_named_by_a_process(&self.directory) && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn is_named_by_a_process(directory: &Path) -> bool {
    let directory = directory.to_string_lossy().into_owned();
    fs::read_dir("/proc").into_iter().flatten().flatten().any(|process| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&directory)
    })
}
