//! Randomness that spreads retries, so that hosts do not all call a server at the same time.

/// A random number from 0 to 1; 0.5 when the kernel gives none.
pub(crate) fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}
