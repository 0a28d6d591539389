//! psi's black-box tests live in `tests/psi`, and `src/bin` has what they start; this crate has no code of its own.
