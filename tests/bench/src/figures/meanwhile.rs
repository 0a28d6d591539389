//! Hits of a registered secret while psid does other work, alternating with hits while it is idle.

use std::time::{Duration, Instant};

use super::Bench;
use crate::fixture::{FakeInfisical, Instance, id, reference};
use crate::load::{self, Call, Connection};
use crate::report::{Row, Side, Target, Unit};
use crate::stats::Samples;
use crate::{Failure, Result};

/// One miss after the other is cached and written, among 100,000 entries.
pub fn misses(bench: &Bench, instance: &Instance, unlisted: &str) -> Result<Row> {
    let rounds = bench.rounds(16).max(4);
    let misses: Vec<Call> = (0..rounds * 40)
        .map(|number| {
            Call::lookup_by_reference(&reference(unlisted, &FakeInfisical::key(100 + number)))
        })
        .collect();
    let (busy, quiet) = load::run(async {
        let connection = Connection::open(&instance.socket()).await?;
        let other = Connection::open(&instance.socket()).await?;
        let known = register(&connection).await?;
        let (mut busy, mut quiet) = (Vec::new(), Vec::new());
        for misses in misses.chunks(40) {
            // Gathered changes are written first, so that the round begins idle.
            tokio::time::sleep(Duration::from_millis(800)).await;
            latencies(&connection, &known, &mut quiet, || false).await?;
            let (other, misses) = (other.clone(), misses.to_vec());
            // A miss every 10 ms: there is one during each phase of a write.
            let misses = tokio::task::spawn_local(async move {
                for miss in &misses {
                    other.call(miss).await?;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok::<_, Failure>(())
            });
            latencies(&connection, &known, &mut busy, || misses.is_finished()).await?;
            misses.await??;
        }
        Ok((Samples::of(busy), Samples::of(quiet)))
    })?;
    Ok(Row {
        figure: "p99.9 of hits while misses are persisted, to p99.9 without",
        target: Target::AtMost(5.0, Unit::Times),
        measured: busy.quantile(0.999) / quiet.quantile(0.999),
        ours: Side::new(worst("with", &busy), Unit::Micros, busy),
        beside: Side::new(worst("without", &quiet), Unit::Micros, quiet),
    })
}

/// A directory of 40,000 secrets, about the most that psid accepts in one answer, is listed, cached
/// and written; one of them changes each time.
pub fn listings(bench: &Bench) -> Result<Row> {
    let fake = FakeInfisical::start(&bench.programs, 1, 40_000)?;
    let instance = Instance::of(&bench.programs, &fake, 1)?;
    let (psid, _) = instance.start()?;
    psid.refresh()?;
    let (mut longest_busy, mut longest_quiet) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds(16).max(5) {
        let (mut busy, mut quiet) = (Vec::new(), Vec::new());
        psid.settle()?;
        fake.put("/f0", &FakeInfisical::key(1), &format!("value {round}"))?;
        load::run(async {
            let connection = Connection::open(&instance.socket()).await?;
            let known = register(&connection).await?;
            latencies(&connection, &known, &mut quiet, || false).await
        })?;
        std::thread::scope(|scope| {
            let refresh = scope.spawn(|| instance.driver(&["cache", "refresh"]));
            load::run(async {
                let connection = Connection::open(&instance.socket()).await?;
                let known = Call::lookup(&id(0));
                while !refresh.is_finished() {
                    latencies(&connection, &known, &mut busy, || refresh.is_finished()).await?;
                }
                Ok(())
            })?;
            refresh.join().map_err(|_| "the refresh crashed")??;
            Ok::<_, Failure>(())
        })?;
        longest_busy.push(Samples::of(busy).quantile(1.0));
        longest_quiet.push(Samples::of(quiet).quantile(1.0));
    }
    // The longest one of a round, not p99.9: three programs share two cores meanwhile, which delays
    // many hits.
    Ok(Row::ratio(
        "the longest hit while 40,000 entries are listed, to the longest without",
        Target::AtMost(5.0, Unit::Times),
        Side::new("with", Unit::Micros, Samples::of(longest_busy)),
        Side::new("without", Unit::Micros, Samples::of(longest_quiet)),
    ))
}

/// A reference of the first directory, as podman's id 0: its value is cached from now on.
async fn register(connection: &Connection) -> Result<Call> {
    let store = Call::store(&id(0), reference("/f0", &FakeInfisical::key(0)).as_bytes());
    connection.call(&store).await?;
    let lookup = Call::lookup(&id(0));
    connection.call(&lookup).await?;
    Ok(lookup)
}

fn worst(what: &str, samples: &Samples) -> String {
    let (p999, worst) = (samples.quantile(0.999), samples.quantile(1.0));
    format!("{what} (p99.9 {p999:.0} µs, worst {worst:.0} µs)")
}

/// One hit after another, for half a second or until `end`.
async fn latencies(
    connection: &Connection,
    call: &Call,
    into: &mut Vec<f64>,
    end: impl Fn() -> bool,
) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(500) && !end() {
        let start = Instant::now();
        connection.call(call).await?;
        into.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(())
}
