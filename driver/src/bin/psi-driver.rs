//! `psi-driver`: podman's secret driver.

use std::process::ExitCode;

fn main() -> ExitCode {
    psi_driver::run_driver(std::env::args_os())
}
