//! Interleaved measurements: other work of the machine affects all of them alike.

use crate::Result;

/// Measurements of one thing, sorted.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

/// One thing to measure; each call is one measurement.
pub type Probe<'a> = &'a mut dyn FnMut() -> Result<f64>;

impl Samples {
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }

    pub fn one(value: f64) -> Self {
        Self(vec![value])
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value that a share of the measurements does not exceed; nearest rank.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    }
}

/// Measures each probe `rounds` times, one after the other in each round, after one round that does not
/// count.
pub fn alternate<const N: usize>(rounds: usize, probes: [Probe<'_>; N]) -> Result<[Samples; N]> {
    let mut values: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..=rounds {
        // The order rotates, so that no probe always follows the same other one.
        for turn in 0..N {
            let which = (turn + round) % N;
            let value = probes[which]()?;
            if round > 0 {
                values[which].push(value);
            }
        }
    }
    Ok(values.map(Samples::of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_uses_nearest_rank() {
        let samples = Samples::of((1..=100).rev().map(f64::from).collect());
        assert_eq!((samples.median(), samples.p99(), samples.quantile(1.0)), (50.0, 99.0, 100.0));
        assert_eq!(Samples::one(7.0).p99(), 7.0);
    }

    #[test]
    fn rounds_interleave_probes() {
        let (mut first, mut second) = (0, 0);
        let mut a = || {
            first += 1;
            Ok(f64::from(first))
        };
        let mut b = || {
            second += 1;
            Ok(f64::from(second))
        };
        let [a, b] = alternate(3, [&mut a, &mut b]).unwrap();
        assert_eq!((a.median(), b.median(), a.count()), (3.0, 3.0, 3));
    }
}
