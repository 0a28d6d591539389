//! The figures, and what each is measured in turn with.

mod container;
mod disk;
mod hostile;
pub mod instructions;
mod lookup;
mod meanwhile;
mod memory;
mod rate;
mod start;

use crate::Result;
use crate::fixture::Programs;
use crate::report::Row;

/// What all figures are measured with.
pub struct Bench {
    pub programs: Programs,
    /// Fewer rounds: enough to see a ratio, not to see it twice alike.
    pub quick: bool,
}

type Figures = fn(&Bench, &mut Vec<Row>) -> Result<()>;

/// By name, in the order in which they are measured.
pub const FIGURES: [(&str, Figures); 8] = [
    ("lookup", lookup::measure),
    ("instructions", instructions::measure),
    ("container", container::measure),
    ("rate", rate::measure),
    ("hostile", hostile::measure),
    ("memory", memory::measure),
    ("start", start::measure),
    ("disk", disk::measure),
];

impl Bench {
    /// How often something is done: `full` times, or a share of it.
    pub fn rounds(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(8) } else { full }
    }
}
