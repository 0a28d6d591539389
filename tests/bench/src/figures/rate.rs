//! Hits on one connection, beside a tonic service that returns a constant.

use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Bench;
use crate::Result;
use crate::fixture::{Child, FakeInfisical, Instance, id, reference};
use crate::load::{self, Call, Connection};
use crate::report::{Row, Side, Target, Unit};
use crate::stats::Samples;

/// The number of secrets that are registered and looked up in turn.
const SECRETS: usize = 500;

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let fake = FakeInfisical::start(&bench.programs, 1, SECRETS)?;
    let instance = Instance::of(&bench.programs, &fake, 1)?;
    let (psid, _) = instance.start()?;
    psid.refresh()?;
    load::run(register(&instance, SECRETS))?;
    let socket = instance.directory().join("run/echo.sock");
    let echo = echo(bench, &socket)?;

    for (in_flight, least, figures) in [
        (1, 20_000.0, ["hits, one after another", "hits, one after another, to tonic alone"]),
        (64, 60_000.0, ["hits, 64 in flight", "hits, 64 in flight, to tonic alone"]),
    ] {
        let services = [(&*instance.socket(), &psid.process), (&*socket, &echo)];
        let [(ours, our_cpu), (tonic, its_cpu)] =
            load::run(rates(bench, services, in_flight, bench.rounds(40)))?;
        let sides = || {
            let side = |what: &str, cpu: f64, samples: &Samples| {
                Side::new(
                    format!("{what} ({cpu:.1} µs of CPU each)"),
                    Unit::PerSecond,
                    samples.clone(),
                )
            };
            (side("psid", our_cpu, &ours), side("tonic alone", its_cpu, &tonic))
        };
        let (psid, alone) = sides();
        rows.push(Row::median(figures[0], Target::AtLeast(least, Unit::PerSecond), psid, alone));
        let (psid, alone) = sides();
        rows.push(Row::ratio(figures[1], Target::AtLeast(0.8, Unit::Percent), psid, alone));
    }
    Ok(())
}

/// Registers the fake's first secrets, by references.
pub async fn register(instance: &Instance, count: usize) -> Result<()> {
    let connection = Connection::open(&instance.socket()).await?;
    let stores: Vec<_> = (0..count)
        .map(|number| {
            Call::store(&id(number), reference("/f0", &FakeInfisical::key(number)).as_bytes())
        })
        .collect();
    load::all(&connection, &stores.into(), 8).await
}

/// A call for each registered secret.
pub fn lookups(count: usize) -> Rc<[Call]> {
    (0..count).map(|number| Call::lookup(&id(number))).collect()
}

/// The rates of two services in turn, and the processor time of a call, in µs.
async fn rates(
    bench: &Bench,
    services: [(&Path, &Child); 2],
    in_flight: usize,
    rounds: usize,
) -> Result<[(Samples, f64); 2]> {
    let calls = lookups(SECRETS);
    let span = Duration::from_millis(if bench.quick { 250 } else { 500 });
    let [first, second] = services.map(|(socket, _)| Connection::open(socket));
    let connections = [first.await?, second.await?];
    let (mut samples, mut cpu) = ([Vec::new(), Vec::new()], [0.0; 2]);
    for round in 0..=rounds {
        for (which, connection) in connections.iter().enumerate() {
            let before = services[which].1.cpu()?;
            let rate = load::rate(connection, &calls, in_flight, span).await?;
            if round > 0 {
                samples[which].push(rate);
                cpu[which] += services[which].1.cpu()? - before;
            }
        }
    }
    let spent = |which: usize| {
        let count: f64 = samples[which].iter().sum::<f64>() * span.as_secs_f64();
        (Samples::of(samples[which].clone()), cpu[which] / count)
    };
    Ok([spent(0), spent(1)])
}

fn echo(bench: &Bench, socket: &Path) -> Result<Child> {
    let mut command = Command::new(&bench.programs.bench);
    command.arg("echo").arg(socket).stdin(Stdio::null());
    let child = Child::start(&mut command)?;
    let start = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        if start.elapsed() > Duration::from_secs(10) {
            return Err("the echo service does not start".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}
