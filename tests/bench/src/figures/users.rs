//! Root's lookups and psid's memory while one user has 100 hostile connections at the users' socket.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Bench;
use super::hostile::hits;
use crate::Result;
use crate::besiege::KINDS;
use crate::fixture::{Child, FakeInfisical, Instance, Psid, id};
use crate::load::{self, Call, Connection};
use crate::report::{Row, Side, Target, Unit};
use crate::stats::Samples;

/// The user of the workload.
const USER: u32 = 12_345;
/// Its connections.
const CONNECTIONS: &str = "100";
/// Lookups of root's in a round.
const HITS: usize = 500;

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let fake = FakeInfisical::start(&bench.programs, 1, 1)?;
    let instance = Instance::of(&bench.programs, &fake, 0)?;
    instance.configure(&format!(
        "[workloads.web]\nprovider = \"infisical\"\nuser = {USER}\n\
         secrets = [{{ project = \"myproject\", path = \"/f0\" }}]\n"
    ))?;
    let program = reachable(bench, &instance)?;
    let psid = instance.start_with_users()?;
    load::run(async {
        let connection = Connection::open(&instance.socket()).await?;
        connection.call(&Call::store(&id(0), &[b'x'; 100])).await
    })?;
    store_as_user(bench, &instance)?;
    let mut all = Outcome::default();
    println!(
        "| 100 connections of one user | opened | RSS before | during | after | p99 of root's lookups before | during | after | median before | during |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (kind, _) in KINDS {
        let one = besieged(bench, &instance, &psid, &program, kind)?;
        println!("{}", one.line(kind));
        all.add(one);
    }
    let side =
        |what: &str, unit, values: &[f64]| Side::new(what, unit, Samples::of(values.to_vec()));
    let [before, during, after] = &all.hits;
    let (before, during) =
        (side("quiet", Unit::Micros, before), side("besieged", Unit::Micros, during));
    rows.push(Row {
        figure: "p99 of root's lookups under 100 hostile connections of a user, to without",
        target: Target::AtMost(2.0, Unit::Times),
        measured: during.samples.p99() / before.samples.p99(),
        ours: during,
        beside: before,
    });
    let _ = after;
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let [before, during, after] = &all.resident;
    rows.push(Row::median(
        "psid's RSS under them, beyond that before",
        Target::AtMost(24.0, Unit::MiB),
        Side::new("most", Unit::MiB, Samples::one(most(during) - before[0])),
        Side::new("after all of them", Unit::MiB, Samples::one(after[after.len() - 1] - before[0])),
    ));
    Ok(())
}

/// What was measured [before, during, after] sieges.
#[derive(Default)]
struct Outcome {
    resident: [Vec<f64>; 3],
    /// In µs.
    hits: [Vec<f64>; 3],
    opened: String,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        for (all, one) in self.resident.iter_mut().zip(other.resident) {
            all.extend(one);
        }
        for (all, one) in self.hits.iter_mut().zip(other.hits) {
            all.extend(one);
        }
    }

    fn line(&self, kind: &str) -> String {
        let rss = |at: usize| Unit::MiB.show(Samples::of(self.resident[at].clone()).quantile(1.0));
        let hits = self.hits.clone().map(Samples::of);
        let p99 = |at: usize| Unit::Micros.show(hits[at].p99());
        let median = |at: usize| Unit::Micros.show(hits[at].median());
        let opened = &self.opened;
        format!(
            "| {kind} | {opened} | {} | {} | {} | {} | {} | {} | {} | {} |",
            rss(0),
            rss(1),
            rss(2),
            p99(0),
            p99(1),
            p99(2),
            median(0),
            median(1)
        )
    }
}

/// One kind of siege: quiet rounds and besieged ones in turn.
fn besieged(
    bench: &Bench,
    instance: &Instance,
    psid: &Psid<'_>,
    program: &PathBuf,
    kind: &str,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut opened = 0;
    for _ in 0..bench.rounds(8).max(2) {
        outcome.resident[0].push(psid.process.resident()?);
        hits(&instance.socket(), HITS, &mut outcome.hits[0])?;
        let mut command = Command::new(program);
        command.arg("besiege").arg(instance.users_socket()).args([kind, CONNECTIONS, &id(1)]);
        command.uid(USER).gid(USER).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
        let mut siege = Child::start(&mut command)?;
        let mut stdout = BufReader::new(siege.inner().stdout.take().ok_or("no stdout")?);
        std::thread::sleep(Duration::from_millis(500));
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1_500) {
            hits(&instance.socket(), HITS / 5, &mut outcome.hits[1])?;
            outcome.resident[1].push(psid.process.resident()?);
        }
        drop(siege.inner().stdin.take());
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        opened += line.split(' ').next().unwrap_or_default().parse::<u64>()?;
        siege.inner().wait()?;
        std::thread::sleep(Duration::from_millis(300));
        hits(&instance.socket(), HITS, &mut outcome.hits[2])?;
        outcome.resident[2].push(psid.process.resident()?);
    }
    outcome.opened = opened.to_string();
    Ok(outcome)
}

/// This program where the user can execute it.
fn reachable(bench: &Bench, instance: &Instance) -> Result<PathBuf> {
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
    };
    let copy = instance.directory().join("run/psi-bench");
    std::fs::copy(&bench.programs.bench, &copy)?;
    for path in [instance.directory(), &instance.directory().join("run"), &copy] {
        open(path)?;
    }
    Ok(copy)
}

/// A literal of the user's, as large as a secret can be.
fn store_as_user(bench: &Bench, instance: &Instance) -> Result<()> {
    let driver = instance.directory().join("run/psi-driver");
    std::fs::copy(&bench.programs.driver, &driver)?;
    let value = instance.directory().join("run/value");
    std::fs::write(&value, vec![b'x'; 500_000])?;
    let mut command = Command::new(&driver);
    command.arg("store").env_clear().env("PSI_SOCKET", instance.users_socket());
    command.env("SECRET_ID", id(1)).uid(USER).gid(USER).stdin(std::fs::File::open(&value)?);
    if command.status()?.success() { Ok(()) } else { Err("a user's store failed".into()) }
}
