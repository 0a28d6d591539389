//! Resident memory, and whether it grows.

use super::Bench;
use super::rate::{lookups, register};
use crate::Result;
use crate::fixture::{FakeInfisical, Instance, Psid};
use crate::load::{self, Connection};
use crate::report::{Row, Side, Target, Unit};
use crate::stats::Samples;

const SECRETS: usize = 500;

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let fake = FakeInfisical::start(&bench.programs, 1, SECRETS)?;
    let instance = Instance::of(&bench.programs, &fake, 1)?;
    let empty = Instance::of(&bench.programs, &fake, 0)?;
    let (psid, _) = instance.start()?;
    let (none, _) = empty.start()?;
    psid.refresh()?;
    load::run(register(&instance, SECRETS))?;
    let (lookups, refreshes) = if bench.quick { (100_000, 50) } else { (1_000_000, 1_000) };
    load::run(look_up(&instance, 10_000))?;
    let side = |what: &str, mib| Side::new(what, Unit::MiB, Samples::one(mib));
    rows.push(Row::median(
        "psid's RSS with 500 secrets",
        Target::AtMost(12.0, Unit::MiB),
        side("500 secrets", psid.process.resident()?),
        side("none", none.process.resident()?),
    ));
    load::run(look_up(&instance, lookups / 10))?;
    let before = psid.process.resident()?;
    load::run(look_up(&instance, lookups))?;
    let after = psid.process.resident()?;
    rows.push(Row::ratio(
        "RSS after a million lookups, to before",
        // A leak would grow far more than the allocator and the kernel's accounting.
        Target::AtMost(1.02, Unit::Times),
        side("after", after),
        side("before", before),
    ));
    refresh(&psid, &fake, refreshes / 10)?;
    let before = psid.process.resident()?;
    refresh(&psid, &fake, refreshes)?;
    let after = psid.process.resident()?;
    rows.push(Row::ratio(
        "RSS after 1,000 refreshes, to before",
        Target::AtMost(1.02, Unit::Times),
        side("after", after),
        side("before", before),
    ));
    Ok(())
}

async fn look_up(instance: &Instance, times: usize) -> Result<()> {
    let connection = Connection::open(&instance.socket()).await?;
    let calls = lookups(SECRETS);
    for _ in 0..times / SECRETS {
        load::all(&connection, &calls, 16).await?;
    }
    Ok(())
}

/// Each refresh finds another value; an unchanged one would need no listing.
fn refresh(psid: &Psid<'_>, fake: &FakeInfisical, times: usize) -> Result<()> {
    for round in 0..times {
        fake.put("/f0", &FakeInfisical::key(round % SECRETS), &format!("{round:0100}"))?;
        psid.refresh()?;
        if round % 50 == 0 {
            fake.forget()?;
        }
    }
    Ok(())
}
