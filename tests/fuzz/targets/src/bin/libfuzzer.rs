//! Runs the target that `PSI_FUZZ_TARGET` names under libFuzzer. `tests/fuzz/run.sh` builds it.

#![no_main]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "libFuzzer has main and the command line, and a panic is its finding"
)]

use parking_lot::Mutex;

use psi_fuzz::{Body, Target};

static BODY: Mutex<Option<Body>> = Mutex::new(None);

fn open() -> Body {
    let name = std::env::var("PSI_FUZZ_TARGET").expect("PSI_FUZZ_TARGET names no target");
    let target = Target::named(&name).unwrap_or_else(|| panic!("there is no target {name}"));
    (target.open)()
}

libfuzzer_sys::fuzz_target!(
    init: *BODY.lock() = Some(open()),
    |input: &[u8]| (BODY.lock().as_mut().unwrap())(input)
);
