//! From the start of the process to READY, with the key delivered as systemd delivers it.

use super::{Bench, rate};
use crate::Result;
use crate::load;
use crate::report::{Row, Side, Target, Unit};
use crate::stage::{FakeInfisical, World};
use crate::stats::alternate;

pub fn measure(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let fake = FakeInfisical::start(&bench.programs, 1, 500)?;
    let (empty, full) =
        (World::of(&bench.programs, &fake, 0)?, World::of(&bench.programs, &fake, 1)?);
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

/// Starts psid, and ends it again; how long it took to be ready, in ms.
pub fn until_ready(world: &World) -> Result<f64> {
    let (psid, ready) = world.start()?;
    psid.process.terminate()?;
    Ok(ready)
}
