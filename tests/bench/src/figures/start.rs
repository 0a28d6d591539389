//! From the start of the process to READY, with the key provided as by systemd.

use super::{Bench, rate};
use crate::Result;
use crate::fixture::{FakeInfisical, Instance};
use crate::load;
use crate::report::{Row, Side, Target, Unit};
use crate::stats::alternate;

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let fake = FakeInfisical::start(&bench.programs, 1, 500)?;
    let (empty, full) =
        (Instance::of(&bench.programs, &fake, 0)?, Instance::of(&bench.programs, &fake, 1)?);
    {
        let (psid, _) = full.start()?;
        psid.refresh()?;
        load::run(rate::register(&full, 500))?;
        psid.process.terminate()?;
    }
    let mut with_500 = || until_ready(&full);
    let mut with_none = || until_ready(&empty);
    let [with_500, with_none] = alternate(bench.rounds(60), [&mut with_500, &mut with_none])?;
    rows.push(Row::median(
        "start to READY, 500 registered and cached (tpm)",
        Target::AtMost(50.0, Unit::Millis),
        Side::new("500", Unit::Millis, with_500),
        Side::new("none", Unit::Millis, with_none),
    ));
    Ok(())
}

/// Starts and ends psid; returns the time until READY, in ms.
pub fn until_ready(instance: &Instance) -> Result<f64> {
    let (psid, ready) = instance.start()?;
    psid.process.terminate()?;
    Ok(ready)
}
