//! The figures, each with its comparison.

mod container;
mod disk;
mod hostile;
pub mod instructions;
mod lookup;
mod meanwhile;
mod memory;
mod rate;
mod start;
mod users;

use crate::Result;
use crate::fixture::Programs;
use crate::report::Row;

/// The programs and settings of all figures.
pub struct Bench {
    pub programs: Programs,
    /// Those of an earlier build.
    pub before: Option<Programs>,
    /// Fewer rounds: enough for a ratio, not for a repeatable one.
    pub quick: bool,
}

type Figures = fn(&Bench, &mut Vec<Row>) -> Result<()>;

/// By name, in the order in which they are measured.
pub const FIGURES: [(&str, Figures); 10] = [
    ("lookup", lookup::measure),
    ("before", lookup::beside_an_earlier_build),
    ("instructions", instructions::measure),
    ("container", container::measure),
    ("rate", rate::measure),
    ("hostile", hostile::measure),
    ("users", users::measure),
    ("memory", memory::measure),
    ("start", start::measure),
    ("disk", disk::measure),
];

impl Bench {
    /// The number of rounds: `full`, or a share of it.
    pub fn rounds(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(8) } else { full }
    }
}
