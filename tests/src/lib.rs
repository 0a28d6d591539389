//! psi's black-box tests live in `tests/psi`; this crate has no code of its own.
