//! One lookup, as podman makes it: a shell that executes psi-driver.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::Bench;
use crate::Result;
use crate::fixture::{Child, FakeInfisical, Instance, Programs, id, reference};
use crate::report::{Row, Side, Target, Unit};
use crate::stats::{Samples, alternate};

/// The Python PSI's way: a server of the standard library on a unix socket.
const PYTHON_SERVER: &str = r#"
import http.server, os, socketserver, sys
values = {"/v1/secrets/%025x" % 0: b"0" * 100}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        value = values[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(value)))
        self.end_headers()
        self.wfile.write(value)
    def log_message(self, *args):
        pass
    def address_string(self):
        return "unix"
class Server(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 128
server = Server(sys.argv[1], Handler)
print("ready", flush=True)
server.serve_forever()
"#;

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let fake = FakeInfisical::start(&bench.programs, 1, 1)?;
    let instance = Instance::of(&bench.programs, &fake, 1)?;
    let (psid, _) = instance.start()?;
    psid.refresh()?;
    store(&instance, &id(0), &reference("/f0", &FakeInfisical::key(0)))?;
    let python = python(&instance)?;
    let driver = bench.programs.driver.display().to_string();
    let socket = instance.directory().join("run/python.sock").display().to_string();
    let ours = format!("exec {driver} lookup");
    let curl = format!("exec curl -sf --unix-socket {socket} http://psi/v1/secrets/$SECRET_ID");

    let rounds = bench.rounds(2_000);
    let mut lookup = || shell(&instance, &ours, 100);
    let mut nothing = || shell(&instance, "true", 0);
    let mut curled = || shell(&instance, &curl, 100);
    let [lookups, trues] = alternate(rounds, [&mut lookup, &mut nothing])?;
    let [lookups_beside_curl, curls] = alternate(rounds / 5, [&mut lookup, &mut curled])?;
    drop(python);

    let side = |what: &str, samples| Side::new(what, Unit::Micros, samples);
    const LOOKUP: &str = "sh -c \"exec psi-driver lookup\"";
    rows.push(Row::ratio(
        "a lookup, to sh -c true",
        Target::AtMost(1.7, Unit::Times),
        side(LOOKUP, lookups),
        side("sh -c true", trues),
    ));
    rows.push(Row::ratio(
        "a lookup, to curl and a Python server",
        Target::AtMost(0.2, Unit::Times),
        side(LOOKUP, lookups_beside_curl),
        side("sh -c \"exec curl …\"", curls),
    ));
    rows.push(eight_at_once(bench, &instance, &ours)?);
    rows.push(binary(bench)?);
    Ok(())
}

/// The same lookup by the programs of an earlier build, in turn with today's, from a unit. Each build is a copy in a
/// directory of its own: the length of a path and the place in the page cache make a difference of 2 %.
pub fn beside_an_earlier_build(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let Some(before) = &bench.before else { return Ok(()) };
    let _unit = CallersUnit::enter()?;
    let fake = FakeInfisical::start(&bench.programs, 1, 1)?;
    let directory = tempfile::Builder::new().prefix("psi-").tempdir_in("/tmp")?;
    let copy = |name: &str, programs: &Programs| programs.copied_to(&directory.path().join(name));
    let copies = [copy("a", &bench.programs)?, copy("b", before)?, copy("c", before)?];
    let [today, earlier, again] = copies.each_ref().map(|copy| Instance::of(copy, &fake, 1));
    let instances = [today?, earlier?, again?];
    let mut running = Vec::new();
    for instance in &instances {
        let (psid, _) = instance.start()?;
        psid.refresh()?;
        store(instance, &id(0), &reference("/f0", &FakeInfisical::key(0)))?;
        running.push(psid);
    }
    let [mut today, mut earlier, mut again] = instances.each_ref().map(|instance| {
        let command = format!("exec {} lookup", instance.driver_program().display());
        move || shell(instance, &command, 100)
    });
    let rounds = bench.rounds(8_000);
    let [today, earlier, again] = alternate(rounds, [&mut today, &mut earlier, &mut again])?;
    let side = |what: &str, samples| Side::new(what, Unit::Micros, samples);
    rows.push(Row::ratio(
        "an earlier build's lookup, to itself",
        Target::AtMost(1.02, Unit::Times),
        side("the same programs", again),
        side("earlier", earlier.clone()),
    ));
    rows.push(Row::ratio(
        "a lookup, to an earlier build's",
        Target::AtMost(1.02, Unit::Times),
        side("today", today),
        side("earlier", earlier),
    ));
    Ok(())
}

/// This process and its children in a control group like that of a unit, as podman's processes are. Ends with the value.
struct CallersUnit(PathBuf);

impl CallersUnit {
    fn enter() -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts")?;
        let unified = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let root =
            unified.and_then(|line| line.split(' ').nth(1)).ok_or("no cgroup2 is mounted")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("no cgroup2")?;
        let group = Path::new(root).join("psi-bench.service");
        std::fs::create_dir_all(&group)?;
        std::fs::write(group.join("cgroup.procs"), std::process::id().to_string())?;
        Ok(Self(Path::new(root).join(own)))
    }
}

impl Drop for CallersUnit {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.procs"), std::process::id().to_string());
    }
}

/// Eight shells at a time, alternating with eight that do nothing.
fn eight_at_once(bench: &Bench, instance: &Instance, ours: &str) -> Result<Row> {
    let (mut lookups, mut trues) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(40) {
        lookups.extend(eight(instance, ours, 100, 10)?);
        trues.extend(eight(instance, "true", 0, 10)?);
    }
    let (lookups, trues) = (Samples::of(lookups), Samples::of(trues));
    Ok(Row {
        figure: "p99 of lookups, 8 at once, to their median",
        target: Target::AtMost(4.0, Unit::Times),
        measured: lookups.p99() / lookups.median(),
        ours: Side::new("8 lookups at once", Unit::Micros, lookups),
        beside: Side::new("8 sh -c true at once", Unit::Micros, trues),
    })
}

fn eight(instance: &Instance, command: &str, expected: usize, times: usize) -> Result<Vec<f64>> {
    std::thread::scope(|scope| {
        let one =
            || (0..times).map(|_| shell(instance, command, expected)).collect::<Result<Vec<_>>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| "a thread crashed")??);
        }
        Ok(all)
    })
}

fn binary(bench: &Bench) -> Result<Row> {
    let size = std::fs::metadata(&bench.programs.driver)?.len() as f64;
    let psid = std::fs::metadata(&bench.programs.psid)?.len() as f64;
    Ok(Row::median(
        "psi-driver's size",
        Target::AtMost(super::instructions::budget("size")?, Unit::Bytes),
        Side::new("psi-driver, static", Unit::Bytes, Samples::one(size)),
        Side::new("psid", Unit::Bytes, Samples::one(psid)),
    ))
}

/// Runs a command as podman does; returns the time in µs.
fn shell(instance: &Instance, command: &str, expected: usize) -> Result<f64> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env_clear().envs(instance.environment()).env("SECRET_ID", id(0));
    shell.stdin(Stdio::null()).stderr(Stdio::inherit());
    let start = Instant::now();
    let output = shell.output()?;
    let took = start.elapsed().as_secs_f64() * 1e6;
    if output.status.success() && output.stdout.len() == expected {
        return Ok(took);
    }
    Err(format!("sh -c '{command}': {}, {} bytes", output.status, output.stdout.len()).into())
}

fn store(instance: &Instance, id: &str, data: &str) -> Result<()> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" store"]).arg(instance.driver_program()).env_clear();
    command.envs(instance.environment()).env("SECRET_ID", id).stdin(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().ok_or("no stdin")?.write_all(data.as_bytes())?;
    if child.wait()?.success() { Ok(()) } else { Err("psi-driver store failed".into()) }
}

fn python(instance: &Instance) -> Result<Child> {
    let script = instance.directory().join("server.py");
    std::fs::write(&script, PYTHON_SERVER)?;
    let socket = instance.directory().join("run/python.sock");
    let mut command = Command::new("python3");
    command.arg(&script).arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Child::start(&mut command)?;
    let mut line = String::new();
    let stdout = child.inner().stdout.take().ok_or("no stdout")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    if line != "ready\n" {
        return Err("python3: the server does not start".into());
    }
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(child)
}
